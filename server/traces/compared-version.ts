/** Looks into a version: what its chunks are, and which files lie where. */
import type { Log } from '#server/log.ts'
import type { VersionReader } from '#server/store/chunk-store.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import type { ComparedVersion } from './carry-over.ts'
import { Ext4 } from './ext4.ts'
import { FileMap } from './file-map.ts'
import { fileSystemStart } from './file-system-start.ts'
import { ImageReader } from './image-reader.ts'

/** What the database knows of a version. */
export interface VersionFacts {
  readonly versionId: string
  readonly root: RootLocation
  readonly kernel?: { readonly release: string }
}

/** The root file system, ready to be looked into. */
export interface RootFiles {
  readonly files: FileMap
  readonly fileSystem: Ext4
}

/** Returns undefined when its file system is not one that can be looked into. */
export async function readRootFiles(
  { versionId, root }: VersionFacts,
  reader: VersionReader,
  log: Log,
): Promise<RootFiles | undefined> {
  try {
    const image = new ImageReader(reader)
    const offsetBytes = await fileSystemStart(image.read, root)
    if (offsetBytes === undefined) return undefined
    const fileSystem = await Ext4.open(image.read, offsetBytes)
    if (fileSystem === undefined) return undefined
    return { fileSystem, files: await FileMap.read(fileSystem, offsetBytes) }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    log.warn({ versionId }, `cannot look into a version's files: ${why}`)
    return undefined
  }
}

export async function compareVersion(
  facts: VersionFacts,
  reader: VersionReader,
  log: Log,
): Promise<ComparedVersion> {
  const root = await readRootFiles(facts, reader, log)
  return {
    chunks: reader.chunks,
    hashes: await reader.readHashes(),
    files: root?.files,
    kernelRelease: facts.kernel?.release,
  }
}
