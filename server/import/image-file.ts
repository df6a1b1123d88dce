/** An image while it is found out what it is. */
import type { FileHandle } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'

export interface ImageFile {
  readonly name: string
  readonly path: string
  readonly file: FileHandle
  readonly sizeBytes: number
}

export async function readPiece(
  { file }: Pick<ImageFile, 'file'>,
  offsetBytes: number,
  lengthBytes: number,
): Promise<Buffer> {
  const piece = Buffer.alloc(lengthBytes)
  const { bytesRead } = await file.read(piece, 0, lengthBytes, offsetBytes)
  return piece.subarray(0, bytesRead)
}

export function refused(
  { name }: Pick<ImageFile, 'name'>,
  title: string,
  why: string,
  hint?: string,
): BootwireError {
  return new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${name}": it is in format ${title}; ${why}${hint === undefined ? '' : `; ${hint}`}`,
  )
}
