/** Reads of files at a position, complete or as far as the file goes. */
import { type FileHandle, open } from 'node:fs/promises'

/** Returns how many bytes there were; fewer than asked for at the end of the file. */
export async function readFully(
  file: FileHandle,
  target: Uint8Array,
  positionBytes: number,
  lengthBytes: number = target.length,
): Promise<number> {
  let done = 0
  while (done < lengthBytes) {
    const { bytesRead } = await file.read(target, done, lengthBytes - done, positionBytes + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

/** Returns at most `lengthBytes` from the beginning of a file. */
export async function readHead(path: string, lengthBytes: number): Promise<Uint8Array> {
  await using file = await open(path)
  const bytes = new Uint8Array(lengthBytes)
  return bytes.subarray(0, await readFully(file, bytes, 0))
}

export function isMissing(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
