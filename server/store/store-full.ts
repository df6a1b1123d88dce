/** A full disk, as the person who must free space should read it. */
import { BootwireError } from '#shared/errors.ts'

/** EDQUOT is a full disk for this user; EFBIG a file system that takes no larger file. */
const FULL_CODES = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** Runs `work`, whose files lie in `folder`. @throws {BootwireError} STORE_FULL naming the folder */
export async function namingFullFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isDiskFull(error)) throw error
    throw new BootwireError('STORE_FULL', `Cannot write to "${folder}": the disk is full`, {
      cause: error,
    })
  }
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && FULL_CODES.has(String(error.code))
}
