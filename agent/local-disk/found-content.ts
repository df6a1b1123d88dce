/** What is on a disk or partition that is to be a cache: nothing, or something somebody may want. */
import { GiB, KiB, MiB } from '#shared/units.ts'

interface Signature {
  readonly name: string
  readonly offset: number
  readonly bytes: Buffer
}

function signature(name: string, offset: number, bytes: string | readonly number[]): Signature {
  return { name, offset, bytes: Buffer.from(bytes as string) }
}

/** What people know by name. Anything else that is not zero is something too. */
const SIGNATURES: readonly Signature[] = [
  signature('a partition table (GPT)', 512, 'EFI PART'),
  signature('a partition table (GPT)', 4 * KiB, 'EFI PART'),
  signature('an ext file system', 1080, [0x53, 0xef]),
  signature('an xfs file system', 0, 'XFSB'),
  signature('a btrfs file system', 64 * KiB + 64, '_BHRfS_M'),
  signature('an NTFS file system', 3, 'NTFS    '),
  signature('an exFAT file system', 3, 'EXFAT   '),
  signature('a FAT file system', 82, 'FAT32   '),
  signature('a FAT file system', 54, 'FAT'),
  signature('a LUKS volume', 0, [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]),
  signature('an LVM volume', 512, 'LABELONE'),
  signature('a swap area', 4086, 'SWAPSPACE2'),
  signature('a RAID member', 4 * KiB, [0xfc, 0x4e, 0x2b, 0xa9]),
  signature('an F2FS file system', KiB, [0x10, 0x20, 0xf5, 0xf2]),
  signature('an ISO 9660 file system', 32 * KiB + 1, 'CD001'),
  signature('a partition table (MBR) or boot sector', 510, [0x55, 0xaa]),
]

/** Whoever keeps something keeps a piece of it here: labels, superblocks, tables and their backups. */
const EDGE_BYTES: number = MiB
/** Up to this all is read, in seconds. Reading a terabyte takes hours: of larger disks, samples. */
const WHOLE_BYTES_MAX: number = GiB
/** Ten seconds on a disk with heads. What lies in one run of a thousandth of the disk is met for sure. */
const PROBES = 1024
const PROBE_BYTES: number = 4 * KiB

/** Returns what it is in words; undefined for nothing. @throws what `read` throws */
export async function findContent(
  sizeBytes: number,
  read: (offset: number, length: number) => Promise<Buffer>,
): Promise<string | undefined> {
  const edge = Math.min(EDGE_BYTES, sizeBytes)
  const head = await read(0, edge)
  const known = SIGNATURES.find(({ offset, bytes }) =>
    head.subarray(offset, offset + bytes.length).equals(bytes),
  )
  if (known !== undefined) return known.name
  if (!isZero(head)) return 'data at its beginning'
  if (!isZero(await read(sizeBytes - edge, edge))) return 'data at its end'
  // A disk whose table was lost still has its files.
  for (const { offset, length } of placesToLookAt(sizeBytes)) {
    if (!isZero(await read(offset, length))) return 'data'
  }
  return undefined
}

function* placesToLookAt(sizeBytes: number): Generator<{ offset: number; length: number }> {
  const isWhole = sizeBytes <= WHOLE_BYTES_MAX
  const step = isWhole ? EDGE_BYTES : sizeBytes / PROBES
  const lengthMax = isWhole ? EDGE_BYTES : PROBE_BYTES
  for (let at = 0; at < sizeBytes; at += step) {
    const offset = Math.floor(at / PROBE_BYTES) * PROBE_BYTES
    yield { offset, length: Math.min(lengthMax, sizeBytes - offset) }
  }
}

const ZEROS = Buffer.alloc(EDGE_BYTES)

function isZero(bytes: Buffer): boolean {
  return ZEROS.subarray(0, bytes.length).equals(bytes)
}
