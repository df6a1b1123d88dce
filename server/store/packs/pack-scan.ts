/**
 * Finds the chunks of a pack without its index: each says how long it is, so one leads to the next.
 * Where a header is damaged, the next one that is whole is looked for byte by byte.
 */
import { open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { MiB } from '#shared/units.ts'
import { readUpTo } from '../checked-read.ts'
import {
  CHUNK_HEADER_BYTES,
  IndexEntries,
  PACK_HEADER_BYTES,
  RECORD_BYTES_MAX,
  readChunkHeader,
} from './pack-format.ts'

const WINDOW_BYTES: number = 4 * MiB

export interface ScannedPack {
  /** Chunks whose stored bytes fit their checksum. */
  readonly entries: IndexEntries
  /** Where something lies that is no whole chunk. */
  readonly damagedAt: readonly number[]
  readonly packBytes: number
}

/** @throws Node's error when the pack is not there */
export async function scanPack(path: string, signal: AbortSignal): Promise<ScannedPack> {
  await using file = await open(path)
  const packBytes = (await file.stat()).size
  const entries = new IndexEntries()
  const damagedAt: number[] = []
  const window = new Uint8Array(WINDOW_BYTES)
  let begin = 0
  let end = 0
  let isLost = false
  for (let offset = PACK_HEADER_BYTES; offset < packBytes; ) {
    if (offset + RECORD_BYTES_MAX > end && end < packBytes) {
      signal.throwIfAborted()
      begin = offset
      end = begin + (await readUpTo(file.fd, window, begin, WINDOW_BYTES))
      if (end === begin) break
    }
    const chunk = readChunkHeader(window.subarray(0, end - begin), offset - begin)
    const recordBytes = chunk && CHUNK_HEADER_BYTES + chunk.storedBytes
    if (chunk === undefined || recordBytes === undefined || offset + recordBytes > end) {
      if (!isLost) damagedAt.push(offset)
      isLost = true
      offset += 1
      continue
    }
    isLost = false
    const at = offset - begin + CHUNK_HEADER_BYTES
    const stored = window.subarray(at, at + chunk.storedBytes)
    if (crc32(stored) === chunk.checksum) entries.add({ ...chunk, offset })
    else damagedAt.push(offset)
    offset += recordBytes
  }
  return { entries, damagedAt, packBytes }
}
