/**
 * What a write cache over a base of BASE_FILL must hold. A block was written when one of its sectors
 * is no longer the base's: nothing that is written looks like it.
 */

import assert from 'node:assert/strict'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { BASE_FILL, type CacheChange } from '#test/support/write-cache-changes.ts'

export class WriteCacheModel {
  readonly bytes: Buffer

  constructor(sizeBytes: number) {
    this.bytes = Buffer.alloc(sizeBytes, BASE_FILL)
  }

  apply({ kind, offsetBytes, lengthBytes, fill }: CacheChange): void {
    const end = offsetBytes + lengthBytes
    if (kind === 'trim') this.#trim(offsetBytes, end)
    else this.bytes.fill(kind === 'zero' ? 0 : fill, offsetBytes, end)
  }

  /**
   * The same for a change of which any part in whole sectors may have been made: takes over which.
   * `actual` is what its range is now.
   */
  applyPart(change: CacheChange, actual: Buffer): void {
    const { offsetBytes, lengthBytes } = change
    const range = this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes)
    const before = Buffer.from(range)
    this.apply(change)
    for (let at = 0; at < lengthBytes; at += SECTOR_BYTES) {
      const sector = actual.subarray(at, at + SECTOR_BYTES)
      const isBefore = sector.equals(before.subarray(at, at + SECTOR_BYTES))
      if (isBefore || sector.equals(range.subarray(at, at + SECTOR_BYTES))) continue
      assert.fail(`sector ${at / SECTOR_BYTES} of a ${change.kind} is as neither before nor after`)
    }
    actual.copy(range)
  }

  #trim(begin: number, end: number): void {
    for (let at = Math.ceil(begin / BLOCK_BYTES) * BLOCK_BYTES; at < end; at += BLOCK_BYTES) {
      const blockEnd = Math.min(at + BLOCK_BYTES, this.bytes.length)
      const isWritten = this.bytes.subarray(at, blockEnd).some((byte) => byte !== BASE_FILL)
      if (blockEnd <= end && isWritten) this.bytes.fill(0, at, blockEnd)
    }
  }
}

/** The part of the device's bytes that a change is about. */
export function rangeOf(
  content: Buffer<ArrayBuffer>,
  { offsetBytes, lengthBytes }: CacheChange,
): Buffer<ArrayBuffer> {
  return content.subarray(offsetBytes, offsetBytes + lengthBytes)
}
