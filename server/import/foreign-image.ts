/**
 * Images in formats of other hypervisors, made raw by qemu-img. It is told which driver to use and that
 * the path is one of a file, so that neither name nor content makes it open anything else, and what it
 * finds out is looked at before it reads data (image-format.ts looked before it, and is what counts).
 */
import * as v from 'valibot'
import { exitOf, runTool, startTool, toolFailure } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { VDISK_BYTES_MAX } from '#shared/manifest/tree-shape.ts'
import { formatBytes } from '#shared/units.ts'
import { refused } from './image-file.ts'
import type { ForeignDriver } from './image-format.ts'

export interface ForeignImage {
  readonly driver: ForeignDriver
  readonly title: string
  readonly path: string
  readonly name: string
}

export interface ForeignFacts {
  /** Size of the disk inside. */
  readonly sizeBytes: number
  /** About as much of it is no zeros. */
  readonly dataBytes: number
}

const infoSchema = v.object({
  format: v.string(),
  'virtual-size': v.pipe(v.number(), v.integer(), v.minValue(0)),
  encrypted: v.optional(v.boolean(), false),
  'backing-filename': v.optional(v.string()),
  'format-specific': v.optional(
    v.object({ data: v.optional(v.object({ 'data-file': v.optional(v.string()) })) }),
  ),
})

const measureSchema = v.object({ required: v.number() })

/** Requests of qemu-img at once: what a disk likes, and more does not help. */
const CONVERT_DEPTH = '8'

/** @throws {BootwireError} TOOL_MISSING, TOOL_FAILED, IMAGE_NOT_BOOTABLE, IMAGE_EMPTY */
export async function inspectForeign(
  image: ForeignImage,
  signal: AbortSignal,
): Promise<ForeignFacts> {
  const run = async (...args: string[]) =>
    JSON.parse((await runTool('qemu-img', [...args, ...sourceOf(image)], { signal })).stdout)
  const info = v.parse(infoSchema, await run('info', '--output=json'))
  assertAlone(image, info)
  const sizeBytes = info['virtual-size']
  if (sizeBytes === 0) {
    throw new BootwireError('IMAGE_EMPTY', `Cannot use "${image.name}": its disk has 0 bytes`)
  }
  if (sizeBytes > VDISK_BYTES_MAX) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use "${image.name}": its disk has ${formatBytes(sizeBytes)}, expected at most ${formatBytes(VDISK_BYTES_MAX)}`,
    )
  }
  // What it would take as qcow2, which holds no zeros, is what it takes as a sparse file.
  const measured = await run('measure', '--output=json', '-O', 'qcow2')
  return { sizeBytes, dataBytes: v.parse(measureSchema, measured).required }
}

/** Writes the disk inside to a new file, zeros as holes. @throws {BootwireError} TOOL_FAILED, STORE_FULL */
export async function convertToRaw(
  image: ForeignImage,
  target: string,
  onShare: (share: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const args = ['convert', '-p', '-W', '-m', CONVERT_DEPTH, '-O', 'raw', ...sourceOf(image), target]
  const child = startTool('qemu-img', args, { signal })
  const { stdout, stderr } = child
  invariant(stdout !== null && stderr !== null, 'the streams are pipes')
  let said = ''
  stderr.on('data', (part) => (said += String(part)))
  stdout.on('data', (part) => {
    // Several come in one part when this process is busy.
    const percent = [...String(part).matchAll(/\(([\d.]+)\/100%\)/g)].at(-1)?.[1]
    if (percent !== undefined) onShare(Number(percent) / 100)
  })
  const status = await exitOf('qemu-img', child).catch((error: unknown) => {
    signal.throwIfAborted()
    throw error
  })
  signal.throwIfAborted()
  if (status !== 0) throw toolFailure('qemu-img', status, said)
  // Its last word may still be in the pipe.
  onShare(1)
}

/** In QEMU's notation of options a comma is doubled. */
function sourceOf({ driver, path }: ForeignImage): string[] {
  const file = path.replaceAll(',', ',,')
  return ['--image-opts', `driver=${driver},file.driver=file,file.filename=${file}`]
}

function assertAlone(image: ForeignImage, info: Info): void {
  const refuse = (why: string) => refused(image, image.title, why)
  if (info.format !== image.driver) throw refuse(`qemu-img takes it for ${info.format}`)
  if (info.encrypted) throw refuse('it is encrypted')
  if (info['backing-filename'] !== undefined) throw refuse('it stands on a backing file')
  if (info['format-specific']?.data?.['data-file'] !== undefined) {
    throw refuse('its data lie in another file')
  }
}
type Info = v.InferOutput<typeof infoSchema>
