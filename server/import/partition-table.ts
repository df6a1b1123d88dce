/** The partitions of an image. */
import * as v from 'valibot'
import { runTool } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import type { ImagePart } from './image-part.ts'
import { openSource, type SourceImage } from './source-image.ts'

const tableSchema = v.object({
  partitiontable: v.object({
    label: v.string(),
    device: v.string(),
    sectorsize: v.optional(v.number(), 512),
    partitions: v.optional(
      v.array(
        v.object({
          node: v.string(),
          start: v.number(),
          size: v.number(),
          type: v.string(),
          uuid: v.optional(v.string()),
        }),
      ),
      [],
    ),
  }),
})
type Table = v.InferOutput<typeof tableSchema>['partitiontable']

/** MBR types of partitions that hold others. */
const EXTENDED_TYPES = new Set(['5', 'f', '85'])

/** MBR type that says "there is a GPT here". */
const PROTECTIVE_TYPE = 'ee'

const SECTOR_BYTES = 512
const GPT_SIGNATURE = 'EFI PART'

/** Where the GPT header says the backup header is, the disk's last sector (UEFI 2.10 §5.3.2). */
const BACKUP_LBA_OFFSET = 32

/** @throws {BootwireError} IMAGE_TRUNCATED, IMAGE_NOT_BOOTABLE */
export async function readPartitionTable(
  image: SourceImage,
  signal: AbortSignal,
): Promise<ImagePart[]> {
  const { stdout } = await runTool('sfdisk', ['--json', image.path], { signal })
  const table = v.parse(tableSchema, JSON.parse(stdout)).partitiontable
  if (table.label === 'dos' && table.partitions.some(({ type }) => type === PROTECTIVE_TYPE)) {
    throw await brokenGpt(image)
  }
  const partitions = table.partitions
    .filter(({ type }) => !EXTENDED_TYPES.has(type))
    .map((partition) => toPartition(table, partition))
  for (const partition of partitions) assertInside(image, partition)
  return partitions
}

function toPartition(table: Table, row: Table['partitions'][number]): ImagePart {
  return {
    partition: Number(/^p?([0-9]+)$/.exec(row.node.slice(table.device.length))?.[1]),
    offsetBytes: row.start * table.sectorsize,
    sizeBytes: row.size * table.sectorsize,
    type: row.type.toUpperCase(),
    ...(row.uuid !== undefined && { uuid: row.uuid }),
  }
}

function assertInside(image: SourceImage, part: ImagePart): void {
  const endBytes = part.offsetBytes + part.sizeBytes
  if (endBytes <= image.sizeBytes) return
  throw new BootwireError(
    'IMAGE_TRUNCATED',
    `Cannot use "${image.name}": partition ${part.partition} ends at byte ${endBytes}, the image at ${image.sizeBytes}`,
  )
}

/** sfdisk takes a GPT whose end is missing for an MBR; the header tells how long the disk was. */
async function brokenGpt(image: SourceImage): Promise<BootwireError> {
  const expectedBytes = await gptDiskSize(image)
  if (expectedBytes > image.sizeBytes) {
    return new BootwireError(
      'IMAGE_TRUNCATED',
      `Cannot use "${image.name}": its GPT is of a disk of ${expectedBytes} bytes, the image has ${image.sizeBytes}`,
    )
  }
  return new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${image.name}": its partition table (GPT) is damaged`,
  )
}

/** Returns 0 when there is no GPT header. */
async function gptDiskSize(image: SourceImage): Promise<number> {
  await using file = await openSource(image)
  const header = Buffer.alloc(SECTOR_BYTES)
  await file.read(header, 0, header.length, SECTOR_BYTES)
  if (header.toString('latin1', 0, GPT_SIGNATURE.length) !== GPT_SIGNATURE) return 0
  return (Number(header.readBigUInt64LE(BACKUP_LBA_OFFSET)) + 1) * SECTOR_BYTES
}
