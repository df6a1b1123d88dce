/** What an open cache is made of, as its parts know each other. */
import type { DiskDevice } from '../local-disk/disk-device.ts'
import type { CacheHealth } from './cache-health.ts'
import type { CacheLayout } from './cache-layout.ts'
import type { CacheStateKeeper } from './cache-state.ts'
import type { ObjectIndex } from './object-index.ts'
import type { WriteBudget } from './write-budget.ts'

export interface CacheParts {
  readonly device: DiskDevice
  readonly cacheId: Buffer
  readonly layout: CacheLayout
  readonly index: ObjectIndex
  readonly budget: WriteBudget
  readonly keeper: CacheStateKeeper
  readonly health: CacheHealth
}
