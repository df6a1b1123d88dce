/** What every ChunkStore must do; called by the tests of each. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import type { ChunkStore, CommittedVersion, VersionReader } from '#server/store/chunk-store.ts'
import { chunkCount, chunkLength } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

export interface OpenedStore extends AsyncDisposable {
  readonly store: ChunkStore
}

export function chunkStoreSuite(name: string, openStore: () => Promise<OpenedStore>): void {
  describe(name, () => {
    let opened: OpenedStore
    let store: ChunkStore

    before(async () => {
      opened = await openStore()
      store = opened.store
    })
    after(() => opened[Symbol.asyncDispose]())

    it('readChunk returns every byte that was appended, in pieces of any size', async () => {
      const image = imageOf(1, 3 * MiB + 4321)
      for (const pieceBytes of [1, 4096, 65_537, MiB, image.length]) {
        const committed = await storeImage(store, image.subarray(0, 70_000), pieceBytes)
        assert.deepEqual(await readBack(store, committed), image.subarray(0, 70_000))
      }
      assert.deepEqual(await readBack(store, await storeImage(store, image, MiB)), image)
    })

    it('appendZeros is the same as appending zeros', async () => {
      const [head, tail] = [imageOf(2, 5000), imageOf(3, 300 * KiB)]
      const writer = await store.createVersion()
      await writer.append(head)
      await writer.appendZeros(20 * MiB + 17)
      await writer.append(tail)
      await writer.appendZeros(0)
      await writer.appendZeros(100)
      const committed = await writer.commit()
      const parts = [head, new Uint8Array(20 * MiB + 17), tail, new Uint8Array(100)]
      const image = Buffer.concat(parts)
      assert.deepEqual(await readBack(store, committed), new Uint8Array(image))
      assert.equal((await storeImage(store, image, MiB)).versionId, committed.versionId)
      assert.ok(committed.storedBytes < 2 * MiB, 'zeros are not stored')
    })

    it('commit gives ids by content: equal for equal images, different for different ones', async () => {
      const image = imageOf(4, 200_000)
      const changed = Uint8Array.from(image)
      changed[150_000] = (changed[150_000] ?? 0) ^ 1
      const ids = await Promise.all(
        [image, image, changed, image.subarray(0, -1)].map(
          async (it) => (await storeImage(store, it, 8192)).versionId,
        ),
      )
      assert.match(ids[0] ?? '', /^[0-9a-f]{64}$/)
      assert.equal(ids[0], ids[1])
      assert.equal(new Set(ids).size, 3)
    })

    it('commit takes the same image from several writers at once', async () => {
      for (let round = 0; round < 10; round += 1) {
        const image = imageOf(100 + round, 5000)
        const writers = await Promise.all(Array.from({ length: 4 }, () => store.createVersion()))
        for (const writer of writers) await writer.append(image)
        const committed = await Promise.all(writers.map((writer) => writer.commit()))
        assert.equal(new Set(committed.map(({ versionId }) => versionId)).size, 1)
        const [first] = committed
        assert.deepEqual(first && (await readBack(store, first)), image)
      }
    })

    it('readChunk says zero chunks are zero and sends nothing for them', async () => {
      const committed = await storeImage(store, new Uint8Array(2 * MiB), MiB)
      const reader = await store.openVersion(committed.versionId)
      await using _ = closing(reader)
      for (let index = 0; index < chunkCount(reader); index += 1) {
        assert.deepEqual(await reader.readChunk(index, new Uint8Array(CHUNK_BYTES_MAX)), {
          encoding: CHUNK_ENCODING.zero,
          rawBytes: chunkLength(reader, index),
          storedBytes: 0,
        })
      }
    })

    it('readChunk never needs more room than the chunk has', async () => {
      const noise = Uint8Array.from(
        { length: MiB },
        (_, at) => (Math.imul(at, 2_654_435_761) >>> 13) & 0xff,
      )
      const reader = await store.openVersion((await storeImage(store, noise, MiB)).versionId)
      await using _ = closing(reader)
      const chunk = await reader.readChunk(0, new Uint8Array(CHUNK_BYTES_MAX))
      assert.ok(chunk.storedBytes <= chunk.rawBytes)
    })

    it('readChunk serves many reads at once', async () => {
      const image = imageOf(5, 2 * MiB)
      const reader = await store.openVersion((await storeImage(store, image, MiB)).versionId)
      await using _ = closing(reader)
      const indexes = [...Array(chunkCount(reader)).keys()]
      const chunks = await Promise.all(indexes.map((index) => decodedChunk(reader, index)))
      assert.deepEqual(new Uint8Array(Buffer.concat(chunks)), image)
    })

    it('createVersion shows nothing before commit, and nothing after abort', async () => {
      const before = await store.listVersions()
      const writer = await store.createVersion()
      await writer.append(imageOf(6, 3 * MiB))
      assert.deepEqual(await store.listVersions(), before)
      await writer.abort()
      await writer.abort()
      assert.deepEqual(await store.listVersions(), before)
    })

    it('abort after commit changes nothing', async () => {
      const image = imageOf(7, 100_000)
      const writer = await store.createVersion()
      await writer.append(image)
      const committed = await writer.commit()
      await writer.abort()
      assert.deepEqual(await readBack(store, committed), image)
    })

    it('removeVersion removes one version and spares those being read', async () => {
      const image = imageOf(8, 200_000)
      const kept = await storeImage(store, imageOf(9, 1000), 1000)
      const { versionId } = await storeImage(store, image, MiB)
      assert.ok((await store.listVersions()).includes(versionId))
      const reader = await store.openVersion(versionId)
      await using _ = closing(reader)
      await store.removeVersion(versionId)
      await store.removeVersion(versionId)
      assert.ok(!(await store.listVersions()).includes(versionId))
      assert.ok((await store.listVersions()).includes(kept.versionId))
      assert.deepEqual(
        new Uint8Array(await decodedChunk(reader, 0)),
        image.subarray(0, reader.chunkBytes),
      )
    })

    it('openVersion refuses what it does not have, whatever it is called', async () => {
      for (const id of ['0'.repeat(64), 'x', '', '../../etc', `${'0'.repeat(63)}/`]) {
        await assert.rejects(
          store.openVersion(id),
          (error) => error instanceof BootwireError && error.code === 'NOT_FOUND',
        )
      }
    })

    it('commit takes an image without a byte', async () => {
      const committed = await (await store.createVersion()).commit()
      assert.equal(committed.sizeBytes, 0)
      assert.deepEqual(await readBack(store, committed), new Uint8Array(0))
    })
  })
}

/** Bytes that compress like those of a system: text, repeated with changes, and a run of zeros. */
export function imageOf(seed: number, sizeBytes: number): Uint8Array {
  const image = new Uint8Array(sizeBytes)
  for (let at = 0; at < sizeBytes; at += 1) {
    const block = at >>> 12
    image[at] = block % 5 === 3 ? 0 : (at * seed + (block ^ seed) + ((at * at) >>> 9)) & 0x7f
  }
  return image
}

export async function storeImage(
  store: ChunkStore,
  image: Uint8Array,
  pieceBytes: number,
): Promise<CommittedVersion> {
  const writer = await store.createVersion()
  for (let at = 0; at < image.length; at += pieceBytes) {
    await writer.append(image.subarray(at, at + pieceBytes))
  }
  return await writer.commit()
}

export async function readBack(
  store: ChunkStore,
  { versionId, sizeBytes }: Pick<CommittedVersion, 'versionId' | 'sizeBytes'>,
): Promise<Uint8Array> {
  const reader = await store.openVersion(versionId)
  await using _ = closing(reader)
  assert.equal(reader.sizeBytes, sizeBytes)
  const chunks: Uint8Array[] = []
  for (let index = 0; index < chunkCount(reader); index += 1) {
    chunks.push(await decodedChunk(reader, index))
  }
  return new Uint8Array(Buffer.concat(chunks))
}

export async function decodedChunk(reader: VersionReader, index: number): Promise<Uint8Array> {
  const target = new Uint8Array(CHUNK_BYTES_MAX)
  const { encoding, rawBytes, storedBytes } = await reader.readChunk(index, target)
  assert.equal(rawBytes, chunkLength(reader, index))
  const stored = target.subarray(0, storedBytes)
  if (encoding === CHUNK_ENCODING.zero) return new Uint8Array(rawBytes)
  const decoded = encoding === CHUNK_ENCODING.raw ? stored : zstdDecompressSync(stored)
  assert.equal(decoded.length, rawBytes)
  return decoded
}

function closing(reader: VersionReader): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => reader.close() }
}
