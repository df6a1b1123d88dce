/**
 * In which format an image is, by its content and never by its name, and whether it is one that may be
 * unpacked. An image can name other files as its backing, its data or its extents; whoever made it must
 * not make the server read what the administrator did not name. So everything that refers to another
 * file is refused here, before qemu-img sees it; VMDK extents beside their descriptor are the exception.
 */
import { BootwireError } from '#shared/errors.ts'
import { type ImageFile, readPiece, refused } from './image-file.ts'
import { assertVmdkAlone } from './vmdk.ts'

export type ForeignDriver = 'qcow2' | 'vmdk' | 'vpc' | 'vhdx' | 'vdi'

/** `raw`: the bytes are the disk, `sizeBytes` of them from the beginning. */
export type ImageFormat =
  | { readonly kind: 'raw'; readonly sizeBytes: number }
  | { readonly kind: 'foreign'; readonly driver: ForeignDriver; readonly title: string }

const HEAD_BYTES = 512
const FOOTER_BYTES = 512

/** What is compressed as a whole is unpacked by whoever imports it, on the way in. */
const COMPRESSED = [
  { title: 'gzip', magic: [0x1f, 0x8b], unpack: 'zcat' },
  { title: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], unpack: 'xzcat' },
  { title: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], unpack: 'zstdcat' },
  { title: 'bzip2', magic: [...Buffer.from('BZh')], unpack: 'bzcat' },
] as const

/** @throws {BootwireError} IMAGE_NOT_BOOTABLE, IMAGE_TRUNCATED */
export async function detectFormat(image: ImageFile): Promise<ImageFormat> {
  const head = await readPiece(image, 0, HEAD_BYTES)
  const text = head.toString('latin1')
  if (text.startsWith('QFI\xfb')) return assertQcow2(image, head)
  if (text.startsWith('KDMV') || text.startsWith('# Disk DescriptorFile')) {
    await assertVmdkAlone(image)
    return { kind: 'foreign', driver: 'vmdk', title: 'VMDK' }
  }
  if (text.startsWith('vhdxfile')) return { kind: 'foreign', driver: 'vhdx', title: 'VHDX' }
  if (text.startsWith('conectix')) return assertDynamicVhd(image, head)
  if (head.length >= 80 && head.readUInt32LE(64) === VDI_SIGNATURE) return assertVdi(image, head)
  refuseCompressed(image, head)
  return (await fixedVhd(image)) ?? { kind: 'raw', sizeBytes: image.sizeBytes }
}

/** Offsets of the header: qemu, docs/interop/qcow2.txt. */
function assertQcow2(image: ImageFile, head: Buffer): ImageFormat {
  if (head.length < 104) throw refused(image, 'qcow2', 'its header is cut off')
  const version = head.readUInt32BE(4)
  if (version !== 2 && version !== 3) {
    throw refused(image, 'qcow2', `it is of version ${version}, expected 2 or 3`)
  }
  if (head.readBigUInt64BE(8) !== 0n) {
    throw refused(image, 'qcow2', 'it stands on a backing file', FLATTEN)
  }
  if (head.readUInt32BE(32) !== 0) throw refused(image, 'qcow2', 'it is encrypted')
  const hasExternalData = version === 3 && (head.readUInt32BE(76) & 4) !== 0
  if (hasExternalData) throw refused(image, 'qcow2', 'its data lie in another file', FLATTEN)
  return { kind: 'foreign', driver: 'qcow2', title: 'qcow2' }
}

const VHD_FIXED = 2
const VHD_DYNAMIC = 3
const VHD_DIFFERENCING = 4
const VHD_TYPE_AT = 60
const VHD_CHECKSUM_AT = 64

/** A dynamic VHD begins with a copy of its footer. */
function assertDynamicVhd(image: ImageFile, head: Buffer): ImageFormat {
  const type = head.length < HEAD_BYTES ? 0 : head.readUInt32BE(VHD_TYPE_AT)
  if (type === VHD_DIFFERENCING) {
    throw refused(image, 'VHD', 'it is the difference to another disk', MERGE)
  }
  if (type !== VHD_DYNAMIC) throw refused(image, 'VHD', 'its header is damaged')
  return { kind: 'foreign', driver: 'vpc', title: 'VHD' }
}

/** A fixed VHD is the raw disk with a footer behind it. */
async function fixedVhd(image: ImageFile): Promise<ImageFormat | undefined> {
  const sizeBytes = image.sizeBytes - FOOTER_BYTES
  if (sizeBytes <= 0) return undefined
  const footer = await readPiece(image, sizeBytes, FOOTER_BYTES)
  if (footer.toString('latin1', 0, 8) !== 'conectix' || !isChecksumRight(footer)) return undefined
  if (footer.readUInt32BE(VHD_TYPE_AT) !== VHD_FIXED) {
    throw refused(image, 'VHD', 'its beginning is missing or damaged')
  }
  const diskBytes = Number(footer.readBigUInt64BE(48))
  if (diskBytes > sizeBytes) {
    throw new BootwireError(
      'IMAGE_TRUNCATED',
      `Cannot use "${image.name}": its VHD footer is that of a disk of ${diskBytes} bytes, the file has ${sizeBytes} before it`,
    )
  }
  return { kind: 'raw', sizeBytes: diskBytes }
}

/** The complement of the sum of all bytes but the checksum's own. */
function isChecksumRight(footer: Buffer): boolean {
  let sum = 0
  for (const [at, byte] of footer.entries()) {
    if (at < VHD_CHECKSUM_AT || at >= VHD_CHECKSUM_AT + 4) sum += byte
  }
  return ~sum >>> 0 === footer.readUInt32BE(VHD_CHECKSUM_AT)
}

const VDI_SIGNATURE = 0xbeda107f
const VDI_TYPE_AT = 76
const VDI_TYPES_ALONE = [1, 2] // dynamic and fixed; 3 and 4 are differences to a parent

function assertVdi(image: ImageFile, head: Buffer): ImageFormat {
  if (!VDI_TYPES_ALONE.includes(head.readUInt32LE(VDI_TYPE_AT))) {
    throw refused(image, 'VDI', 'it is the difference to another disk', MERGE)
  }
  return { kind: 'foreign', driver: 'vdi', title: 'VDI' }
}

function refuseCompressed(image: ImageFile, head: Buffer): void {
  const found = COMPRESSED.find(({ magic }) => magic.every((byte, at) => head[at] === byte))
  if (found === undefined) return
  const how = `"${found.unpack} IMAGE | bootwire vdisk import - --name NAME" unpacks it on the way`
  throw refused(image, found.title, 'expected a disk image', how)
}

const FLATTEN = '"qemu-img convert -O qcow2" makes one file of both'
const MERGE = 'merge it into its parent first'
