/**
 * What the client's own disk is to the open version: a cache that is asked before the server, and
 * the hydration that fills it in the background.
 */
import type { LeafNode } from '#shared/manifest/leaf-node.ts'
import type { Hydration, Status } from '#shared/wire/messages.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { ChunkPlace } from './version-tree.ts'

/** What a hydration needs of the fetcher: objects that nobody waits for, kept on the local disk. */
export interface BackgroundFetcher {
  readonly sizeBytes: number
  /** Leaves of the version, each over SPAN_BLOCKS blocks. */
  readonly leafCount: number
  /** Milliseconds since somebody waited for the server last; 0 while somebody does, or a boot is prefetched. */
  idleMs(): number
  /**
   * Returns a leaf, and has it kept on the disk; undefined when everything below it is zero. Waits
   * while the server is away. @throws {Error} AbortError when the vDisk is closed
   */
  leaf(position: number): Promise<LeafNode | undefined>
  /**
   * Returns whether a leaf that was fetched, and every node above it, is on the disk; offers it what is
   * not.
   */
  keepNodes(position: number): boolean
  /**
   * Fetches a chunk and offers it to the disk cache. Returns whether it came; false when it was wrong
   * or unreadable. Any number may be called for at once: they go within the window, behind all else.
   * @throws {Error} AbortError when the vDisk is closed
   */
  keep(chunk: ChunkPlace): Promise<boolean>
}

export interface LocalCopy {
  readonly diskCache?: DiskCache
  /** Whether everything of the version is here, so that nobody needs a server. */
  readonly isComplete: boolean
  /** Called once, when the vDisk is open; what the server said of hydration then. */
  begin(fetcher: BackgroundFetcher, hydration: Hydration): void
  /** The administrator changed it. */
  hydrate(hydration: Hydration): void
  status(): Pick<Status, 'diskCache' | 'hydration'>
  /** Ends hydration and writes what is kept in memory. */
  close(): Promise<void>
}

/** A client without a disk of ours. */
export const NO_LOCAL_COPY: LocalCopy = {
  isComplete: false,
  begin: () => undefined,
  hydrate: () => undefined,
  status: () => ({
    diskCache: {
      state: 'none',
      usedBytes: 0,
      capacityBytes: 0,
      writeBudgetLeftBytes: 0,
      problem: '',
    },
    hydration: { mode: 'off', localBytes: 0, versionBytes: 0 },
  }),
  close: async () => undefined,
}
