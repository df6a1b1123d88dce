/** One write cache's part of a write area, as the block layers use it. Main thread only. */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { EXTENT_BYTES } from './area-layout.ts'
import type { AreaCacheKey, WriteArea } from './write-area.ts'

export interface AreaShare {
  /** Of the partition's device. */
  readonly path: string
  /** Extents that hold its table, where that lies here, too. */
  readonly table: readonly number[]
  /** Extents that hold its data so far. */
  readonly data: readonly number[]
  /** Most bytes of data it may come to, in whole blocks. */
  readonly capacityBytes: number
  /** One more extent for data, durably. Returns which; undefined when there is no more. */
  grow(): Promise<number | undefined>
}

export interface ShareOptions {
  readonly area: WriteArea
  readonly path: string
  readonly key: AreaCacheKey
  /** Length of the table, when that shall lie here. */
  readonly tableBytes?: number
  /** Most bytes of data. */
  readonly limitBytes: number
}

/** @throws {BootwireError} WRITE_AREA_FULL; what writing throws */
export async function openShare(options: ShareOptions): Promise<AreaShare> {
  const { area, path, key, tableBytes = 0, limitBytes } = options
  const { table, data } = await area.claim(key, tableBytes)
  const presentBytes = data.length * EXTENT_BYTES
  const possibleBytes = Math.min(limitBytes, presentBytes + area.freeBytes)
  // What is there stays, also when it is more than the limit by now.
  const capacityBytes = Math.max(presentBytes, possibleBytes - (possibleBytes % BLOCK_BYTES))
  let extents = data.length
  return {
    path,
    table,
    data,
    capacityBytes,
    grow: async () => {
      if (extents * EXTENT_BYTES >= capacityBytes) return undefined
      const extent = await area.grow(key)
      if (extent !== undefined) extents += 1
      return extent
    },
  }
}
