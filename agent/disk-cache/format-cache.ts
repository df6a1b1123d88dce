/** Makes an empty cache: superblocks and a first state. Pages of an earlier one have another id. */

import type { DiskDevice } from '../local-disk/disk-device.ts'
import { newCacheId } from './cache-id.ts'
import {
  IDENTITY_OFFSET,
  layoutOf,
  PAGE_BYTES,
  SEGMENT_BYTES,
  STATE_OFFSETS,
  SUPERBLOCK_OFFSET,
} from './cache-layout.ts'
import { encodeState } from './state-page.ts'
import { encodeSuperblock } from './superblock.ts'

/** `id` is only given by tests. */
export async function formatCache(device: DiskDevice, id: Buffer = newCacheId()): Promise<void> {
  const { sizeBytes } = device
  const layout = layoutOf(sizeBytes)
  const superblock = encodeSuperblock({ id, sizeBytes })
  // While it is made it is none.
  await device.write(Buffer.alloc(PAGE_BYTES), SUPERBLOCK_OFFSET)
  await device.write(Buffer.alloc(PAGE_BYTES), layout.copyOffset)
  // A disk that goes to another machine does not make that one the same.
  await device.write(Buffer.alloc(PAGE_BYTES), IDENTITY_OFFSET)
  await device.sync()
  const state = {
    clock: 0,
    budgetLeftBytes: layout.segments * SEGMENT_BYTES,
    segmentsUsed: 0,
    objects: 0,
    writtenBytes: 0,
  }
  for (const [at, offset] of STATE_OFFSETS.entries()) {
    await device.write(encodeState({ ...state, sequence: at }, id), offset)
  }
  await device.sync()
  await device.write(superblock, SUPERBLOCK_OFFSET)
  await device.write(superblock, layout.copyOffset)
  await device.sync()
}
