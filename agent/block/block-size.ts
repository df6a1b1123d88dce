/**
 * The two grains of the block layers. Memory and table are kept per *block* of 4 KiB, the page of
 * the client's kernel; requests may be as small as a *sector* of 512 bytes, what a disk promises.
 */
import { constants } from 'node:os'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { NbdError } from '../node-nbd/block-device.ts'

export const SECTOR_BYTES = 512

/** A block number is kept in 31 bits: vDisks reach 8 TiB. */
export const BLOCKS_MAX: number = 2 ** 31

export function blockCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES)
}

/** The bit of each sector of a block that holds any of the bytes from `begin` to `end` of the block. */
export function sectorMask(begin: number, end: number): number {
  return ((1 << (end / SECTOR_BYTES)) - 1) & ~((1 << (begin / SECTOR_BYTES)) - 1)
}

/** @throws {NbdError} EINVAL when the range is not made of sectors or leaves the device */
export function checkRange(sizeBytes: number, offsetBytes: number, lengthBytes: number): void {
  if (
    offsetBytes % SECTOR_BYTES === 0 &&
    lengthBytes % SECTOR_BYTES === 0 &&
    offsetBytes >= 0 &&
    lengthBytes >= 0 &&
    offsetBytes + lengthBytes <= sizeBytes
  ) {
    return
  }
  throw new NbdError(
    constants.errno.EINVAL,
    `Cannot serve ${lengthBytes} bytes at ${offsetBytes}: expected multiples of ${SECTOR_BYTES} within ${sizeBytes}`,
  )
}
