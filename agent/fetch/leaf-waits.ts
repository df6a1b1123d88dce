/** Who waits for a leaf of the manifest, to know what the blocks of its span are. */
import type { LeafNode } from '#shared/manifest/leaf-node.ts'
import { PRIORITY, type Priority } from '#shared/wire/frame.ts'
import type { Wait } from './object-fetch.ts'
import type { BlockRange } from './sequential-readahead.ts'

export class LeafWait {
  /** Number of the leaf. */
  readonly position: number
  readonly waits: Wait[] = []
  /** Blocks to be fetched ahead. */
  readonly ahead: BlockRange[] = []
  /** Those who want the leaf itself. */
  readonly readers: PromiseWithResolvers<LeafNode | undefined>[] = []
  isPrefetched = false

  constructor(position: number) {
    this.position = position
  }

  get want(): Priority {
    if (this.waits.length > 0) return PRIORITY.demand
    return this.ahead.length > 0 || this.isPrefetched ? PRIORITY.prefetch : PRIORITY.hydration
  }
}
