/**
 * Lets this process do to files what one does that is killed: from a certain call on, which may be
 * done in part, nothing reaches a file any more. For synchronous code only.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'

type WriteSync = (fd: number, bytes: Buffer, from: number, length: number, at: number) => number

class Killed extends Error {}

/**
 * Runs `change` with its writes and truncations counted from 0. Call number `callsBefore` is the one
 * that is hit: of a write the first `sectors` are still done. Returns whether it came that far.
 */
export function killAt(callsBefore: number, sectors: number, change: () => void): boolean {
  const { writeSync, ftruncateSync } = fs
  let calls = 0
  const isAlive = () => calls++ < callsBefore
  const wounded: WriteSync = (fd, bytes, from, length, at) => {
    if (isAlive()) return writeSync(fd, bytes, from, length, at)
    const part = Math.min(length, sectors * SECTOR_BYTES)
    if (calls === callsBefore + 1 && part > 0) writeSync(fd, bytes, from, part, at)
    throw new Killed()
  }
  const woundedTruncate: typeof ftruncateSync = (fd, length) => {
    if (!isAlive()) throw new Killed()
    ftruncateSync(fd, length)
  }
  Object.assign(fs, { writeSync: wounded, ftruncateSync: woundedTruncate })
  syncBuiltinESMExports()
  try {
    change()
  } catch (error) {
    if (calls <= callsBefore) throw error
  } finally {
    Object.assign(fs, { writeSync, ftruncateSync })
    syncBuiltinESMExports()
  }
  return calls > callsBefore
}
