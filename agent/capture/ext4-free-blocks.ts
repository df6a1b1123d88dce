/**
 * Which blocks of an ext4 file system are free, by its bitmaps (kernel: Documentation/filesystems/ext4). Only of
 * one that was unmounted cleanly, and without features that give the bitmaps another meaning: everything else
 * counts as in use, which costs time and nothing else.
 */
import type { DiskDevice } from '../local-disk/disk-device.ts'

/** Bytes from the beginning of the device. */
export interface FreeRange {
  readonly start: number
  readonly end: number
}

const SUPERBLOCK_AT = 1024
const SUPERBLOCK_BYTES = 1024
const MAGIC = 0xef53
const STATE_CLEAN = 1

const INCOMPAT_RECOVER = 0x4
const INCOMPAT_META_BG = 0x10
const INCOMPAT_64BIT = 0x80
const RO_COMPAT_BIGALLOC = 0x200

/** Group flag: the bitmap was never written. */
const BLOCK_UNINIT = 0x2

/** Descriptors of a file system of 16 TiB have 8 MiB. */
const GROUPS_MAX = 2 ** 20

/** Free space in smaller pieces is not worth a range: reading on is as fast. */
const RANGE_BYTES_MIN: number = 64 * 1024

interface Geometry {
  readonly blockBytes: number
  readonly firstBlock: number
  readonly blocks: number
  readonly blocksPerGroup: number
  readonly descriptorBytes: number
}

/** Returns ranges in order; none for what is no such file system. */
export async function ext4FreeRanges(
  device: Pick<DiskDevice, 'read'>,
  offsetBytes: number,
  sizeBytes: number,
): Promise<FreeRange[]> {
  if (sizeBytes < SUPERBLOCK_AT + SUPERBLOCK_BYTES) return []
  const superblock = Buffer.alloc(SUPERBLOCK_BYTES)
  await device.read(superblock, offsetBytes + SUPERBLOCK_AT)
  const geometry = readGeometry(superblock, sizeBytes)
  if (geometry === undefined) return []
  const { blockBytes, firstBlock, blocks, blocksPerGroup, descriptorBytes } = geometry
  const groups = Math.ceil((blocks - firstBlock) / blocksPerGroup)
  if (groups > GROUPS_MAX) return []
  const descriptors = Buffer.alloc(roundUp(groups * descriptorBytes, blockBytes))
  const descriptorsAt = (firstBlock + 1) * blockBytes
  if (descriptorsAt + descriptors.length > sizeBytes) return []
  await device.read(descriptors, offsetBytes + descriptorsAt)
  const bitmap = Buffer.alloc(blockBytes)
  const ranges = new RangeCollector(offsetBytes, blockBytes)
  for (let group = 0; group < groups; group += 1) {
    const descriptor = descriptors.subarray(group * descriptorBytes, (group + 1) * descriptorBytes)
    if ((descriptor.readUInt16LE(0x12) & BLOCK_UNINIT) !== 0) continue
    const bitmapBlock = readBlockNumber(descriptor, 0x0, 0x20)
    if (bitmapBlock <= firstBlock || bitmapBlock >= blocks) return []
    await device.read(bitmap, offsetBytes + bitmapBlock * blockBytes)
    const groupStart = firstBlock + group * blocksPerGroup
    ranges.addGroup(bitmap, groupStart, Math.min(blocksPerGroup, blocks - groupStart))
  }
  return ranges.finish()
}

function readGeometry(superblock: Buffer, sizeBytes: number): Geometry | undefined {
  const incompat = superblock.readUInt32LE(0x60)
  const roCompat = superblock.readUInt32LE(0x64)
  const isPlain =
    superblock.readUInt16LE(0x38) === MAGIC &&
    superblock.readUInt16LE(0x3a) === STATE_CLEAN &&
    (incompat & (INCOMPAT_RECOVER | INCOMPAT_META_BG)) === 0 &&
    (roCompat & RO_COMPAT_BIGALLOC) === 0 &&
    superblock.readUInt32LE(0x18) <= 6
  if (!isPlain) return undefined
  const is64Bit = (incompat & INCOMPAT_64BIT) !== 0
  const blockBytes = 1024 << superblock.readUInt32LE(0x18)
  const high = is64Bit ? superblock.readUInt32LE(0x150) : 0
  const blocks = superblock.readUInt32LE(0x4) + high * 2 ** 32
  const firstBlock = superblock.readUInt32LE(0x14)
  const blocksPerGroup = superblock.readUInt32LE(0x20)
  const descriptorBytes = is64Bit ? superblock.readUInt16LE(0xfe) : 32
  const isSound =
    blocks * blockBytes <= sizeBytes &&
    firstBlock < 2 &&
    blocksPerGroup > 0 &&
    blocksPerGroup <= blockBytes * 8 &&
    descriptorBytes >= (is64Bit ? 64 : 32) &&
    descriptorBytes <= blockBytes
  if (!isSound) return undefined
  return { blockBytes, firstBlock, blocks, blocksPerGroup, descriptorBytes }
}

function readBlockNumber(descriptor: Buffer, low: number, high: number): number {
  const top = descriptor.length >= 64 ? descriptor.readUInt32LE(high) : 0
  return descriptor.readUInt32LE(low) + top * 2 ** 32
}

class RangeCollector {
  readonly #offsetBytes: number
  readonly #blockBytes: number
  readonly #ranges: FreeRange[] = []
  /** Of the run that is not over. */
  #startBlock = 0
  #endBlock = 0

  constructor(offsetBytes: number, blockBytes: number) {
    this.#offsetBytes = offsetBytes
    this.#blockBytes = blockBytes
  }

  addGroup(bitmap: Buffer, firstBlock: number, count: number): void {
    for (let index = 0; index < count; ) {
      const byte = bitmap[index >> 3] ?? 0xff
      if (byte === 0xff && (index & 7) === 0) {
        index += 8
        continue
      }
      if ((byte & (1 << (index & 7))) === 0) this.#add(firstBlock + index)
      index += 1
    }
  }

  finish(): FreeRange[] {
    this.#flush()
    return this.#ranges
  }

  #add(block: number): void {
    if (block !== this.#endBlock) {
      this.#flush()
      this.#startBlock = block
    }
    this.#endBlock = block + 1
  }

  #flush(): void {
    const start = this.#offsetBytes + this.#startBlock * this.#blockBytes
    const end = this.#offsetBytes + this.#endBlock * this.#blockBytes
    if (end - start >= RANGE_BYTES_MIN) this.#ranges.push({ start, end })
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}
