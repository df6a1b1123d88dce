/**
 * Where casync, a peer with content-defined chunks, cuts an image. Its index is kept beside the image;
 * what it stores is thrown away, since all candidates are compressed by the same compressor here.
 * Format of the index: caformat.h of casync, little-endian 64-bit numbers.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { invariant } from '#shared/invariant.ts'
import { ensureBuilt } from '#test/support/build-cache.ts'
import { runProgram } from '#test/support/child-run.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { type Chunk, chunkId } from './chunking-chunks.ts'
import { type DiskImage, isZero, readImage } from './chunking-image.ts'

/** First the header, with the limits of chunk sizes; then the table's, of size and type. */
const TABLE_OFFSET_BYTES = 48 + 16
const TABLE_TYPE_OFFSET_BYTES = 48 + 8
const TABLE_TYPE = 0xe75b_9e11_2f17_417dn

/** Where a chunk ends, and its hash. A last one, of other content, ends the table. */
const ENTRY_BYTES = 8 + 32
const TAIL_BYTES = ENTRY_BYTES

export async function casyncChunks(image: DiskImage, meanBytes: number): Promise<Chunk[]> {
  const index = await ensureBuilt(`${image.path}.casync-${meanBytes}.caibx`, async (path) => {
    await using store = await createTemporaryFolder(join(path, '..'))
    // It knows an index by the ending of its name.
    const named = join(store.path, 'index.caibx')
    const options = [`--chunk-size=${meanBytes}`, `--store=${join(store.path, 'default.castr')}`]
    await runProgram('casync', [...options, 'make', named, image.path])
    await runProgram('mv', [named, path])
  })
  const ends = parseIndex(await readFile(index))
  invariant(ends.at(-1) === image.sizeBytes, 'the index is that of all the image')
  return ends.flatMap((end, at) => {
    const offsetBytes = ends[at - 1] ?? 0
    const bytes = readImage(image, offsetBytes, end - offsetBytes)
    return isZero(bytes) ? [] : [{ offsetBytes, bytes, id: chunkId(bytes) }]
  })
}

/** Returns where each chunk ends. */
export function parseIndex(index: Buffer): number[] {
  const type = index.readBigUInt64LE(TABLE_TYPE_OFFSET_BYTES)
  invariant(type === TABLE_TYPE, `an index of casync has a table, not ${type.toString(16)}`)
  const ends: number[] = []
  for (let at = TABLE_OFFSET_BYTES; at < index.length - TAIL_BYTES; at += ENTRY_BYTES) {
    ends.push(Number(index.readBigUInt64LE(at)))
  }
  return ends
}
