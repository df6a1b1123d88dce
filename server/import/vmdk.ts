/**
 * What a VMDK says of other files: a text, in the file itself or as the whole of it, names the extents
 * that hold the data, and a parent. It is read strictly, since what this does not understand qemu-img
 * might: extents must be files beside the descriptor, without a way out of its folder.
 */
import { lstat, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { KiB } from '#shared/units.ts'
import { type ImageFile, readPiece, refused } from './image-file.ts'

const SECTOR_BYTES = 512

/** qemu-img looks no further into a sparse extent; a descriptor of its own is two kilobytes long. */
const DESCRIPTOR_BYTES_MAX: number = 64 * KiB

/** Sparse extents that have another descriptor inside, instead of data. */
const NO_CAPACITY = 0n

const EXTENT =
  /^(RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(FLAT|VMFS|SPARSE|VMFSSPARSE)[ \t]+"([^"]+)"(?:[ \t]+\d+)?[ \t]*$/
const SETTING = /^[\w.]+[ \t]*=[^\0]*$/

interface Extent {
  readonly type: string
  readonly fileName: string
}

/** @throws {BootwireError} IMAGE_NOT_BOOTABLE */
export async function assertVmdkAlone(image: ImageFile): Promise<void> {
  const head = await readPiece(image, 0, SECTOR_BYTES)
  if (head.toString('latin1', 0, 4) !== 'KDMV') {
    if (image.sizeBytes > DESCRIPTOR_BYTES_MAX) throw vmdk(image, 'its descriptor is too long')
    return await assertDescriptor(image, await readPiece(image, 0, image.sizeBytes))
  }
  assertHoldsData(image, head)
  const descriptorAt = Number(head.readBigUInt64LE(28)) * SECTOR_BYTES
  if (descriptorAt === 0) return
  // The extent it names is itself.
  const text = await readPiece(image, descriptorAt, DESCRIPTOR_BYTES_MAX)
  assertNoParent(image, textOf(text))
}

async function assertDescriptor(image: ImageFile, bytes: Buffer): Promise<void> {
  const text = textOf(bytes)
  assertNoParent(image, text)
  const extents = parseExtents(image, text)
  if (extents.length === 0) throw vmdk(image, 'its descriptor names no extent')
  for (const extent of extents) await assertExtent(image, extent)
}

function parseExtents(image: ImageFile, text: string): Extent[] {
  const extents: Extent[] = []
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const [, access, type = '', fileName = ''] = EXTENT.exec(line) ?? []
    if (access !== undefined) extents.push({ type, fileName })
    else if (!SETTING.test(line)) throw vmdk(image, `it has a line that is not known: "${line}"`)
  }
  return extents
}

async function assertExtent(image: ImageFile, { type, fileName }: Extent): Promise<void> {
  // A colon would begin the name of a protocol.
  if (/[/\\:\0]/.test(fileName) || fileName === '.' || fileName === '..') {
    throw vmdk(image, `its extent "${fileName}" is not a file beside it`)
  }
  const path = join(dirname(image.path), fileName)
  const status = await lstat(path).catch(() => undefined)
  if (status?.isFile() !== true) {
    throw vmdk(image, `its extent "${fileName}" is missing beside it, or is not a file`)
  }
  if (type !== 'SPARSE') return
  await using file = await open(path)
  assertHoldsData(image, await readPiece({ file }, 0, SECTOR_BYTES))
}

function assertHoldsData(image: ImageFile, head: Buffer): void {
  const isSparse = head.length === SECTOR_BYTES && head.toString('latin1', 0, 4) === 'KDMV'
  if (!isSparse || head.readBigUInt64LE(12) === NO_CAPACITY) {
    throw vmdk(image, 'its extent has no data of its own')
  }
}

function assertNoParent(image: ImageFile, text: string): void {
  const parent = /^[ \t]*parentCID[ \t]*=[ \t]*(\w+)/m.exec(text)?.[1]?.toLowerCase()
  const hasParent = parent !== undefined && parent !== 'ffffffff'
  if (!hasParent && !text.includes('parentFileNameHint')) return
  throw vmdk(image, 'it is the difference to another disk; merge it into its parent first')
}

/** The text ends at the first zero byte. */
function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end)
}

function vmdk(image: ImageFile, why: string): Error {
  return refused(image, 'VMDK', why)
}
