/** What garbage collection, check and repair work with. */
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import type { Pack } from './packs/pack.ts'
import type { PackSet } from './packs/pack-set.ts'
import type { StoreDisk } from './store-disk.ts'
import type { StoreLayout } from './store-layout.ts'
import type { VersionFolders } from './versions/version-folders.ts'
import type { ImportSession } from './writing/import-session.ts'

export interface StoreParts {
  readonly layout: StoreLayout
  readonly disk: StoreDisk
  readonly packs: PackSet
  readonly folders: VersionFolders
  /** Number of the last commit of a version. */
  readonly lastCommit: () => number
  /** Says, in one step with deciding so, that a version will hold a chunk of this pack. */
  readonly willHold: (pack: Pack) => void
  readonly sign: (record: Uint8Array) => SignedRoot
  /** The session of imports that run. */
  readonly session: () => Promise<ImportSession> | undefined
  /** Has open readers of a version see where its chunks are now. */
  readonly refreshReaders: (versionId: string) => Promise<void>
}

/** Lets other work of this thread go on, which a loop over millions of chunks must do. */
export function yieldThread(): Promise<void> {
  return new Promise(setImmediate)
}

/** Chunks a loop looks at between two pauses: a millisecond or two. */
export const CHUNKS_AT_ONCE = 16_384
