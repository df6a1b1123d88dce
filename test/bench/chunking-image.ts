/**
 * What an image holds, in memory: its data as runs of bytes, without the zeros between them. Runs begin
 * and end on 4 KiB blocks. Gaps shorter than `ZERO_GAP_BYTES` stay part of a run: they cost nothing once
 * compressed, while every cut costs an entry in the manifest.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { invariant } from '#shared/invariant.ts'
import { KiB, MiB } from '#shared/units.ts'

export const BLOCK_BYTES: number = 4 * KiB

/** Zeros of this length are not data. */
const ZERO_GAP_BYTES: number = 16 * KiB

/** Long runs are parted: a typed array with more than 2^30 elements is slow to index. */
const RUN_BYTES_MAX: number = 512 * MiB

const READ_BYTES: number = 4 * MiB

const ZEROS = Buffer.alloc(READ_BYTES)

export interface DataRun {
  readonly offsetBytes: number
  readonly bytes: Uint8Array
}

export interface DiskImage {
  readonly path: string
  readonly sizeBytes: number
  /** Bytes in all runs. */
  readonly dataBytes: number
  readonly runs: readonly DataRun[]
}

export function loadImage(path: string): DiskImage {
  const file = openSync(path, 'r')
  try {
    const sizeBytes = fstatSync(file).size
    const runs = findRuns(file, sizeBytes).map(({ start, end }) => {
      const bytes = Buffer.allocUnsafeSlow(end - start)
      readSync(file, bytes, 0, bytes.length, start)
      return { offsetBytes: start, bytes }
    })
    const dataBytes = runs.reduce((sum, { bytes }) => sum + bytes.length, 0)
    return { path, sizeBytes, dataBytes, runs }
  } finally {
    closeSync(file)
  }
}

function findRuns(file: number, sizeBytes: number): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = []
  const piece = Buffer.alloc(READ_BYTES)
  for (let base = 0; base < sizeBytes; base += READ_BYTES) {
    const length = readSync(file, piece, 0, READ_BYTES, base)
    if (isZero(piece.subarray(0, length))) continue
    for (let at = 0; at < length; at += BLOCK_BYTES) {
      const end = Math.min(at + BLOCK_BYTES, length)
      if (isZero(piece.subarray(at, end))) continue
      const last = runs.at(-1)
      const isNear = last !== undefined && base + at - last.end < ZERO_GAP_BYTES
      if (isNear && base + end - last.start <= RUN_BYTES_MAX) last.end = base + end
      else runs.push({ start: base + at, end: base + end })
    }
  }
  return runs
}

export function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0
}

/** Returns bytes of the image, zeros where it has no data. */
export function readImage(image: DiskImage, offsetBytes: number, lengthBytes: number): Uint8Array {
  const target = new Uint8Array(lengthBytes)
  const end = offsetBytes + lengthBytes
  for (let index = firstRunAfter(image.runs, offsetBytes); index < image.runs.length; index += 1) {
    const run = image.runs[index]
    if (run === undefined || run.offsetBytes >= end) break
    const from = Math.max(offsetBytes, run.offsetBytes)
    const to = Math.min(end, run.offsetBytes + run.bytes.length)
    const part = run.bytes.subarray(from - run.offsetBytes, to - run.offsetBytes)
    target.set(part, from - offsetBytes)
  }
  return target
}

/** Returns bytes that lie within one run, as a view. */
export function viewImage(image: DiskImage, offsetBytes: number, lengthBytes: number): Uint8Array {
  const run = image.runs[firstRunAfter(image.runs, offsetBytes)]
  const from = offsetBytes - (run?.offsetBytes ?? 0)
  invariant(run !== undefined && from >= 0 && from + lengthBytes <= run.bytes.length, 'one run')
  return run.bytes.subarray(from, from + lengthBytes)
}

/** Index of the first run that ends behind the offset. */
function firstRunAfter(runs: readonly DataRun[], offsetBytes: number): number {
  let [low, high] = [0, runs.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    const run = runs[middle]
    if (run !== undefined && run.offsetBytes + run.bytes.length <= offsetBytes) low = middle + 1
    else high = middle
  }
  return low
}
