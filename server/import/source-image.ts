/**
 * The image that is imported, as raw bytes that can be read anywhere: a file, a block device, or the
 * spool file that what came through a pipe or in another format was unpacked into.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { runTool } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { dataExtents, type Extent } from './data-extents.ts'
import { convertToRaw, type ForeignImage, inspectForeign } from './foreign-image.ts'
import { detectFormat, type ImageFormat } from './image-format.ts'
import type { Spool } from './spool.ts'

export interface SourceImage {
  /** Where the bytes lie. */
  readonly path: string
  /** What people call it. */
  readonly name: string
  readonly sizeBytes: number
  /** How it was read: raw, qcow2, … */
  readonly format: string
}

/** A path on the server, or bytes that come. */
export type ImageSource =
  | { readonly path: string }
  | { readonly upload: AsyncIterable<Uint8Array>; readonly name: string }

export interface SourceDeps {
  readonly spool: Spool
  readonly report: (stage: string, doneBytes: number, totalBytes: number) => void
  readonly signal: AbortSignal
}

/** One read of the source: large enough that its cost is the copying. */
const READ_BYTES = MiB

/**
 * Makes the image readable as raw bytes; what was unpacked for that goes with `stack`.
 * @throws {BootwireError} IMAGE_MISSING, IMAGE_EMPTY, IMAGE_TRUNCATED, IMAGE_NOT_BOOTABLE,
 *   PERMISSION_DENIED, STORE_FULL, TOOL_MISSING, TOOL_FAILED
 */
export async function openImage(
  source: ImageSource,
  deps: SourceDeps,
  stack: AsyncDisposableStack,
): Promise<SourceImage> {
  const file =
    'path' in source ? { ...source, name: source.path } : await receive(source, deps, stack)
  const { format, sizeBytes } = await inspectFile(file, deps.signal)
  if (format.kind === 'raw') return { ...file, sizeBytes: format.sizeBytes, format: 'raw' }
  deps.report(`unpacking ${format.title}`, 0, sizeBytes)
  return await unpack({ ...file, ...format }, deps, stack)
}

/** What is read of an image: the data it has, in order, and the zeros between. */
export interface ImagePiece {
  /** Absent for zeros. The memory is used again for the next piece. */
  readonly bytes?: Uint8Array
  readonly lengthBytes: number
}

/**
 * Reads the image from its first byte to its last; holes are not read.
 * @throws {BootwireError} IMAGE_TRUNCATED when it became shorter meanwhile
 */
export async function* readSource(
  image: SourceImage,
  signal: AbortSignal,
): AsyncGenerator<ImagePiece> {
  await using file = await openSource(image)
  const buffer = new Uint8Array(READ_BYTES)
  let position = 0
  for await (const extent of extentsOf(image, file, signal)) {
    const { offsetBytes, sizeBytes } = extent
    if (offsetBytes > position) yield { lengthBytes: offsetBytes - position }
    for await (const bytes of readExtent(image, file, extent, buffer, signal)) {
      yield { bytes, lengthBytes: bytes.length }
    }
    position = offsetBytes + sizeBytes
  }
  if (position < image.sizeBytes) yield { lengthBytes: image.sizeBytes - position }
}

/**
 * Reads pieces of the image, one behind the other, as if they were one. The memory is used again.
 * @throws {BootwireError} IMAGE_TRUNCATED
 */
export async function* readExtents(
  image: SourceImage,
  extents: readonly Extent[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  await using file = await openSource(image)
  const buffer = new Uint8Array(READ_BYTES)
  for (const extent of extents) yield* readExtent(image, file, extent, buffer, signal)
}

async function* readExtent(
  image: SourceImage,
  file: FileHandle,
  { offsetBytes, sizeBytes }: Extent,
  buffer: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const endBytes = offsetBytes + sizeBytes
  for (let position = offsetBytes; position < endBytes; ) {
    signal.throwIfAborted()
    const wanted = Math.min(buffer.length, endBytes - position)
    const { bytesRead } = await file.read(buffer, 0, wanted, position)
    if (bytesRead === 0) throw truncated(image, position)
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

/** Returns how much there is to read, holes not counted. */
export async function dataBytesOf(image: SourceImage, signal: AbortSignal): Promise<number> {
  await using file = await openSource(image)
  let dataBytes = 0
  for await (const { sizeBytes } of extentsOf(image, file, signal)) dataBytes += sizeBytes
  return dataBytes
}

async function* extentsOf(
  image: SourceImage,
  file: FileHandle,
  signal: AbortSignal,
): AsyncGenerator<Extent> {
  const status = await file.stat()
  if (status.isFile() && status.size < image.sizeBytes) throw truncated(image, status.size)
  const isSparse = status.isFile() && status.blocks * 512 < image.sizeBytes
  if (isSparse) yield* dataExtents(image.path, image.sizeBytes, signal)
  else yield { offsetBytes: 0, sizeBytes: image.sizeBytes }
}

export async function openSource({
  path,
  name,
}: Pick<SourceImage, 'path' | 'name'>): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EACCES' || code === 'EPERM') {
      throw new BootwireError(
        'PERMISSION_DENIED',
        `Cannot use "${name}": the server may not read it`,
        { cause: error },
      )
    }
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') {
      throw new BootwireError('IMAGE_MISSING', `Cannot use "${name}": there is no such file`, {
        cause: error,
      })
    }
    throw error
  }
}

interface NamedFile {
  readonly path: string
  readonly name: string
}

async function inspectFile(
  { path, name }: NamedFile,
  signal: AbortSignal,
): Promise<{ readonly format: ImageFormat; readonly sizeBytes: number }> {
  await using file = await openSource({ path, name })
  const status = await file.stat()
  if (!status.isFile() && !status.isBlockDevice()) {
    throw new BootwireError(
      'IMAGE_MISSING',
      `Cannot use "${name}": it is neither a file nor a block device`,
    )
  }
  const sizeBytes = status.isFile() ? status.size : await deviceSize(path, signal)
  if (sizeBytes === 0) {
    throw new BootwireError('IMAGE_EMPTY', `Cannot use "${name}": it has 0 bytes`)
  }
  return { format: await detectFormat({ path, name, file, sizeBytes }), sizeBytes }
}

/** A pipe has no end that is known, and no way back: what comes is written down first. */
async function receive(
  { upload, name }: { readonly upload: AsyncIterable<Uint8Array>; readonly name: string },
  { spool, report, signal }: SourceDeps,
  stack: AsyncDisposableStack,
): Promise<NamedFile> {
  const spooled = stack.use(await spool.create())
  const pieces = async function* () {
    for await (const piece of upload) {
      signal.throwIfAborted()
      yield piece
    }
  }
  report('receiving', 0, 0)
  await spool.write(spooled, pieces(), name, (bytes) => report('receiving', bytes, 0))
  return { path: spooled.path, name }
}

async function unpack(
  image: ForeignImage,
  { spool, report, signal }: SourceDeps,
  stack: AsyncDisposableStack,
): Promise<SourceImage> {
  const { sizeBytes, dataBytes } = await inspectForeign(image, signal)
  await spool.assertRoom(dataBytes, image.name)
  const spooled = stack.use(await spool.create())
  const stage = `unpacking ${image.title}`
  const onShare = (share: number) => report(stage, Math.round(share * sizeBytes), sizeBytes)
  await convertToRaw(image, spooled.path, onShare, signal)
  return { path: spooled.path, name: image.name, sizeBytes, format: image.title }
}

async function deviceSize(path: string, signal: AbortSignal): Promise<number> {
  return Number((await runTool('blockdev', ['--getsize64', path], { signal })).stdout)
}

function truncated({ name, sizeBytes }: SourceImage, position: number): BootwireError {
  return new BootwireError(
    'IMAGE_TRUNCATED',
    `Cannot use "${name}": it ended after ${position} bytes, expected ${sizeBytes}`,
  )
}
