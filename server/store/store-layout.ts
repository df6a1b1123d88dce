/** Names of the store's files and folders (FORMAT.md). */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

export const VERSION_ID_PATTERN: RegExp = /^[0-9a-f]{64}$/
export const PACK_ID_PATTERN: RegExp = /^[0-9a-f]{16}$/
export const PACK_SUFFIX = '.pack'
export const INDEX_SUFFIX = '.index'
/** What carries it is being written; it goes when the store is opened. */
export const NEW_SUFFIX = '.new'
/** Folders below `versions` that are no versions (yet, or any more). */
export const WRITING_PREFIX = 'new-'
export const REMOVING_PREFIX = 'old-'

/** The files of a version. Each can be rebuilt from the other two and the packs. */
export const VERSION_FILES = { root: 'root', nodes: 'nodes', places: 'places' } as const

export class StoreLayout {
  readonly folder: string
  readonly packs: string
  readonly versions: string

  constructor(folder: string) {
    this.folder = folder
    this.packs = join(folder, 'packs')
    this.versions = join(folder, 'versions')
  }

  pack(packId: string): string {
    return join(this.packs, packId + PACK_SUFFIX)
  }

  index(packId: string): string {
    return join(this.packs, packId + INDEX_SUFFIX)
  }

  version(versionId: string): string {
    return join(this.versions, versionId)
  }

  versionFile(versionId: string, file: keyof typeof VERSION_FILES): string {
    return join(this.versions, versionId, VERSION_FILES[file])
  }

  passingVersion(prefix: typeof WRITING_PREFIX | typeof REMOVING_PREFIX): string {
    return join(this.versions, prefix + randomBytes(8).toString('hex'))
  }
}

export function newPackId(): string {
  return randomBytes(8).toString('hex')
}
