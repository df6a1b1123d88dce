/** Objects for tests of the disk cache: number `index` always has the same hash and bytes. */
import { randomBytes } from 'node:crypto'
import type { CachedObject, DiskCache } from '#agent/disk-cache/disk-cache.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'

const NOISE = randomBytes(2 ** 20)

export interface TestObject extends CachedObject {
  readonly hash: Uint8Array
}

export function testObject(index: number, storedBytes: number): TestObject {
  const from = (index * 7919) % (NOISE.length - storedBytes)
  return {
    // The cache never looks whether it is that of the bytes.
    hash: contentHash(Buffer.from(`object ${index}`)),
    encoding: index % 3 === 0 ? CHUNK_ENCODING.raw : CHUNK_ENCODING.zstd,
    rawBytes: index % 3 === 0 ? storedBytes : Math.min(2 * storedBytes, 131_072),
    payload: NOISE.subarray(from, from + storedBytes),
  }
}

export function isSame(found: CachedObject, object: CachedObject): boolean {
  return (
    found.encoding === object.encoding &&
    found.rawBytes === object.rawBytes &&
    Buffer.compare(found.payload, object.payload) === 0
  )
}

/** Reads objects; returns for each whether it is there. @throws when one is not what it should be */
export async function readAll(
  cache: DiskCache,
  objects: readonly TestObject[],
): Promise<boolean[]> {
  const isFound = objects.map(() => false)
  const calls = objects.map(() => 0)
  await cache.read(
    objects.map(({ hash }) => hash),
    (index, found) => {
      calls[index] = (calls[index] ?? 0) + 1
      if (found === undefined) return
      const object = objects[index]
      if (object === undefined || !isSame(found, object))
        throw new Error(`object ${index} is wrong`)
      isFound[index] = true
    },
  )
  if (calls.some((count) => count !== 1)) throw new Error('an object was not told once')
  return isFound
}
