/**
 * Where an export is written. A file appears under its name when it is whole and on the disk, and not
 * before; zeros are holes in it. Devices and pipes get every byte.
 */
import { randomBytes } from 'node:crypto'
import type { Stats } from 'node:fs'
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { namingFullFolder } from '#server/store/store-full.ts'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { BadOutcome } from './command.ts'

export interface ExportTarget {
  write(bytes: Uint8Array): Promise<void>
  writeZeros(lengthBytes: number): Promise<void>
  /** Everything was written. */
  finish(): Promise<void>
  /** Takes away what was written, where that is possible. Nothing after `finish`. */
  abandon(): Promise<void>
}

const ZEROS = new Uint8Array(MiB)

/** @throws {BootwireError} ALREADY_EXISTS, PERMISSION_DENIED, INVALID_ARGUMENT */
export async function openExportTarget(
  path: string,
  { force }: { readonly force: boolean },
): Promise<ExportTarget> {
  const status = await stat(path).catch(() => undefined)
  if (status?.isDirectory() === true) throw refused(path, 'INVALID_ARGUMENT', 'it is a folder')
  if (status?.isFile() === false) return await openDevice(path, status, force)
  if (status !== undefined && !force) {
    throw refused(path, 'ALREADY_EXISTS', 'it is there already; --force replaces it')
  }
  return await openFile(status === undefined ? path : await realpath(path))
}

/** Standard output. `stream` fails when whoever reads it is gone. */
export function streamTarget(stream: Writable): ExportTarget {
  const failed = new Promise<never>((_, reject) => {
    stream.on('error', (cause) =>
      reject(new BadOutcome('nobody reads standard output any more', { cause })),
    )
  })
  failed.catch(() => undefined) // told to the next write
  const write = async (bytes: Uint8Array) => {
    const written = new Promise<void>((resolve) => stream.write(bytes, () => resolve()))
    await Promise.race([written, failed])
    if (stream.errored !== null) await failed
  }
  return {
    write,
    writeZeros: (lengthBytes) => inPieces(lengthBytes, write),
    finish: async () => undefined,
    abandon: async () => undefined,
  }
}

async function openFile(path: string): Promise<ExportTarget> {
  const partial = `${path}.partial-${randomBytes(4).toString('hex')}`
  const file = await opening(path, () => open(partial, 'wx'))
  let position = 0
  let isDone = false
  return {
    write: async (bytes) => {
      await namingFullFolder(path, () => writeAll(file, bytes, position))
      position += bytes.length
    },
    writeZeros: async (lengthBytes) => {
      position += lengthBytes
    },
    finish: async () => {
      await namingFullFolder(path, async () => {
        await file.truncate(position)
        await file.sync()
      })
      await file.close()
      await rename(partial, path)
      isDone = true
    },
    abandon: async () => {
      if (isDone) return
      await file.close().catch(() => undefined) // closed already when the rename failed
      await rm(partial, { force: true })
    },
  }
}

async function openDevice(path: string, status: Stats, force: boolean): Promise<ExportTarget> {
  if (status.isBlockDevice() && !force) {
    throw refused(path, 'ALREADY_EXISTS', 'it is a block device; --force overwrites what is on it')
  }
  const file = await opening(path, () => open(path, 'w'))
  const write = (bytes: Uint8Array) => namingFullFolder(path, () => writeAll(file, bytes, null))
  return {
    write,
    writeZeros: (lengthBytes) => inPieces(lengthBytes, write),
    finish: async () => {
      if (status.isBlockDevice()) await file.sync()
      await file.close()
    },
    abandon: async () => await file.close().catch(() => undefined),
  }
}

async function inPieces(
  lengthBytes: number,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  for (let left = lengthBytes; left > 0; left -= ZEROS.length) {
    await write(ZEROS.subarray(0, Math.min(left, ZEROS.length)))
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number | null) {
  for (let done = 0; done < bytes.length; ) {
    const at = position === null ? null : position + done
    done += (await file.write(bytes, done, bytes.length - done, at)).bytesWritten
  }
}

async function opening(path: string, open: () => Promise<FileHandle>): Promise<FileHandle> {
  try {
    return await open()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (['EACCES', 'EPERM', 'EROFS'].includes(code)) {
      throw refused(path, 'PERMISSION_DENIED', 'you may not write there', error)
    }
    if (['ENOENT', 'ENOTDIR'].includes(code)) {
      throw refused(path, 'INVALID_ARGUMENT', 'there is no such folder', error)
    }
    throw error
  }
}

function refused(path: string, code: ErrorCode, why: string, cause?: unknown): BootwireError {
  return new BootwireError(code, `Cannot write to "${path}": ${why}`, { cause })
}
