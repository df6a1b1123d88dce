/** The file or block device an image is imported from: opened, measured, and read. */
import { type FileHandle, open } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { runTool } from './tool.ts'

export interface SourceImage {
  readonly path: string
  readonly sizeBytes: number
}

/** Disk images that are not raw, by what they begin with. */
const OTHER_FORMATS = [
  { name: 'qcow2', magic: [0x51, 0x46, 0x49, 0xfb] },
  { name: 'VMDK', magic: [...Buffer.from('KDMV')] },
  { name: 'VMDK', magic: [...Buffer.from('# Disk DescriptorFile')] },
  { name: 'VHDX', magic: [...Buffer.from('vhdxfile')] },
  { name: 'VHD', magic: [...Buffer.from('conectix')] },
  { name: 'gzip', magic: [0x1f, 0x8b] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a] },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: 'bzip2', magic: [...Buffer.from('BZh')] },
] as const

const MAGIC_BYTES = 32

/** One read of the source: large enough that its cost is the copying. */
const READ_BYTES = MiB

/** @throws {BootwireError} IMAGE_MISSING, IMAGE_EMPTY, IMAGE_NOT_BOOTABLE, PERMISSION_DENIED */
export async function inspectSource(path: string, signal: AbortSignal): Promise<SourceImage> {
  await using file = await openSource(path)
  const status = await file.stat()
  if (!status.isFile() && !status.isBlockDevice()) {
    throw new BootwireError(
      'IMAGE_MISSING',
      `Cannot import "${path}": it is neither a file nor a block device`,
    )
  }
  const sizeBytes = status.isFile() ? status.size : await deviceSize(path, signal)
  if (sizeBytes === 0) {
    throw new BootwireError('IMAGE_EMPTY', `Cannot import "${path}": it has 0 bytes`)
  }
  await refuseOtherFormats(path, file)
  return { path, sizeBytes }
}

/**
 * Reads the image from its first byte to its last. The memory is used again for the next piece.
 * @throws {BootwireError} IMAGE_TRUNCATED when it became shorter meanwhile
 */
export async function* readSource(
  { path, sizeBytes }: SourceImage,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  await using file = await openSource(path)
  const buffer = new Uint8Array(READ_BYTES)
  for (let position = 0; position < sizeBytes; ) {
    signal.throwIfAborted()
    const wanted = Math.min(buffer.length, sizeBytes - position)
    const { bytesRead } = await file.read(buffer, 0, wanted, position)
    if (bytesRead === 0) {
      throw new BootwireError(
        'IMAGE_TRUNCATED',
        `Cannot import "${path}": it ended after ${position} bytes, expected ${sizeBytes}`,
      )
    }
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

const ZEROS = new Uint8Array(READ_BYTES)

/** True for a piece of the image with nothing but zeros, such as a hole of a sparse file. */
export function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0
}

export async function openSource(path: string): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EACCES' || code === 'EPERM') {
      throw new BootwireError(
        'PERMISSION_DENIED',
        `Cannot import "${path}": the server may not read it`,
        { cause: error },
      )
    }
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') {
      throw new BootwireError('IMAGE_MISSING', `Cannot import "${path}": there is no such file`, {
        cause: error,
      })
    }
    throw error
  }
}

async function deviceSize(path: string, signal: AbortSignal): Promise<number> {
  return Number((await runTool('blockdev', ['--getsize64', path], { signal })).stdout)
}

async function refuseOtherFormats(path: string, file: FileHandle): Promise<void> {
  const head = new Uint8Array(MAGIC_BYTES)
  await file.read(head, 0, head.length, 0)
  const other = OTHER_FORMATS.find(({ magic }) => magic.every((byte, at) => head[at] === byte))
  if (other === undefined) return
  throw new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot import "${path}": it is in format ${other.name}, expected a raw image ("qemu-img convert -O raw" or an unpacker makes one)`,
  )
}
