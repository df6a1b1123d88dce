/** Which file system a part of an image holds, and whether all of it is there. */

import { runTool } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'
import { type ImagePart, nameOfPart } from './image-part.ts'
import { openSource, type SourceImage } from './source-image.ts'

/** What `blkid` found; a type such as ext4 or crypto_LUKS, or a partition table. */
export interface Signature {
  readonly type?: string
  readonly uuid?: string
  readonly label?: string
  readonly partitionTable?: string
}

export interface FileSystem {
  readonly part: ImagePart
  /** As blkid and `mount -t` call it. */
  readonly type: string
  /** As fstab names it; absent when it has none. */
  readonly uuid?: string
  readonly label?: string
}

/** blkid found nothing it knows; 8: several signatures that contradict each other. */
const NOTHING_FOUND = 2
const AMBIVALENT = 8

export async function probe(
  image: SourceImage,
  { offsetBytes, sizeBytes, volume }: ImagePart,
  signal: AbortSignal,
): Promise<Signature> {
  // Its beginning says what it is.
  const length = volume?.pieces[0]?.sizeBytes ?? sizeBytes
  const { status, stdout } = await runTool(
    'blkid',
    ['-p', '-O', String(offsetBytes), '-S', String(length), '-o', 'export', image.path],
    { signal, answers: [NOTHING_FOUND, AMBIVALENT] },
  )
  if (status !== 0) return {}
  const names = { type: 'TYPE', uuid: 'UUID', label: 'LABEL', partitionTable: 'PTTYPE' }
  const found = Object.entries(names).flatMap(([key, name]) => {
    const value = new RegExp(`^${name}=(.+)$`, 'm').exec(stdout)?.[1]
    return value === undefined ? [] : [[key, value]]
  })
  return Object.fromEntries(found) as Signature
}

export function fileSystemOf(
  part: ImagePart,
  { type, uuid, label }: Signature,
): FileSystem | undefined {
  if (type === undefined) return undefined
  return {
    part,
    type,
    ...(uuid !== undefined && { uuid }),
    ...(label !== undefined && { label }),
  }
}

interface Superblock {
  readonly offsetBytes: number
  /** Returns the size of the file system by the fields of its superblock. */
  sizeOf(superblock: Buffer): number
}

const EXT_64BIT = 0x80

const EXT: Superblock = {
  // kernel: Documentation/filesystems/ext4/super.rst
  offsetBytes: 1024,
  sizeOf: (block) => {
    const high = (block.readUInt32LE(0x60) & EXT_64BIT) === 0 ? 0 : block.readUInt32LE(0x150)
    const blocks = block.readUInt32LE(0x04) + high * 2 ** 32
    return blocks * 2 ** (10 + block.readUInt32LE(0x18))
  },
}

const SUPERBLOCKS: Readonly<Record<string, Superblock>> = {
  ext2: EXT,
  ext3: EXT,
  ext4: EXT,
  // sb_blocksize × sb_dblocks
  xfs: {
    offsetBytes: 0,
    sizeOf: (block) => block.readUInt32BE(4) * Number(block.readBigUInt64BE(8)),
  },
  // total_bytes of all its devices, so this holds for file systems on one device: num_devices
  btrfs: {
    offsetBytes: 64 * KiB,
    sizeOf: (block) =>
      block.readBigUInt64LE(0x88) === 1n ? Number(block.readBigUInt64LE(0x70)) : 0,
  },
}

const SUPERBLOCK_BYTES = 1024

/** @throws {BootwireError} IMAGE_TRUNCATED when the file system is larger than where it lies */
export async function assertComplete(image: SourceImage, { part, type }: FileSystem) {
  const superblock = SUPERBLOCKS[type]
  if (superblock === undefined) return
  await using file = await openSource(image)
  const block = Buffer.alloc(SUPERBLOCK_BYTES)
  await file.read(block, 0, block.length, part.offsetBytes + superblock.offsetBytes)
  const sizeBytes = superblock.sizeOf(block)
  if (sizeBytes <= part.sizeBytes) return
  const where = part.partition === 0 && part.volume === undefined ? 'the image' : nameOfPart(part)
  throw new BootwireError(
    'IMAGE_TRUNCATED',
    `Cannot use "${image.name}": its ${type} file system has ${sizeBytes} bytes, ${where} only ${part.sizeBytes}`,
  )
}
