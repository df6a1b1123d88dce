/** What every ChunkStore must do; called by the tests of each. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import type { ChunkStore, CommittedVersion, VersionReader } from '#server/store/chunk-store.ts'
import { versionContent } from '#server/store/versions/version-content.ts'
import { BootwireError } from '#shared/errors.ts'
import { contentHash, HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, bytesOfBlocks, treeLevels, vdiskBlocks } from '#shared/manifest/tree-shape.ts'
import { verifyVersionRoot } from '#shared/manifest/version-root.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL } from '#shared/wire/frame.ts'
import { TEST_SIGNER_KEY } from '#test/support/memory-chunk-store.ts'

export interface OpenedStore extends AsyncDisposable {
  /** Signs as `signForTest` does. */
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

    it('gives every byte back that was appended, in pieces of any size', async () => {
      const image = imageOf(1, 3 * MiB + 4321)
      for (const pieceBytes of [1, 4096, 65_537, MiB, image.length]) {
        const committed = await storeImage(store, image.subarray(0, 70_000), pieceBytes)
        assert.deepEqual(await readBack(store, committed), image.subarray(0, 70_000))
      }
      assert.deepEqual(await readBack(store, await storeImage(store, image, MiB)), image)
    })

    it('gives images back that reach over several spans', async () => {
      const image = imageOf(21, 33 * MiB + 5)
      assert.deepEqual(await readBack(store, await storeImage(store, image, 3 * MiB)), image)
    })

    it('appendZeros is the same as appending zeros', async () => {
      const [head, tail] = [imageOf(2, 5000), imageOf(3, 300 * KiB)]
      const writer = await store.createVersion()
      await writer.append(head)
      await writer.appendZeros(50 * MiB + 17)
      await writer.append(tail)
      await writer.appendZeros(0)
      await writer.appendZeros(100)
      const committed = await writer.commit()
      const parts = [head, new Uint8Array(50 * MiB + 17), tail, new Uint8Array(100)]
      const image = new Uint8Array(Buffer.concat(parts))
      assert.deepEqual(await readBack(store, committed), image)
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
      for (let round = 0; round < 5; round += 1) {
        const image = imageOf(100 + round, 50_000)
        const writers = await Promise.all(Array.from({ length: 4 }, () => store.createVersion()))
        for (const writer of writers) await writer.append(image)
        const committed = await Promise.all(writers.map((writer) => writer.commit()))
        assert.equal(new Set(committed.map(({ versionId }) => versionId)).size, 1)
        const [first] = committed
        assert.deepEqual(first && (await readBack(store, first)), image)
      }
    })

    it('openVersion has the root as this server signed it', async () => {
      const committed = await storeImage(store, imageOf(10, 90_000), MiB)
      await using reader = await opening(store, committed.versionId)
      const pin = Buffer.from(contentHash(TEST_SIGNER_KEY)).toString('base64url')
      const root = verifyVersionRoot(reader.it.signedRoot, committed.versionId, pin)
      assert.equal(root.sizeBytes, 90_000)
      assert.equal(reader.it.sizeBytes, 90_000)
      assert.equal(reader.it.versionId, committed.versionId)
    })

    it('chunks are in order, do not overlap, and leave only zeros out', async () => {
      const image = imageOf(11, 2 * MiB + 77)
      const { versionId, storedBytes } = await storeImage(store, image, MiB)
      await using reader = await opening(store, versionId)
      const { chunks } = reader.it
      let next = 0
      let sum = 0
      for (let index = 0; index < chunks.count; index += 1) {
        const first = chunks.firstBlock(index)
        assert.ok(first >= next && chunks.blocks(index) >= 1 && chunks.blocks(index) <= 32)
        assertZero(image, next, first)
        for (let block = next; block < first; block += 1) assert.equal(chunks.indexAt(block), -1)
        next = first + chunks.blocks(index)
        for (let block = first; block < next; block += 1) {
          assert.equal(chunks.indexAt(block), index)
        }
        sum += chunks.storedBytes(index)
      }
      assertZero(image, next, vdiskBlocks(image.length))
      assert.equal(sum, storedBytes)
      assert.equal(reader.it.storedBytes, storedBytes)
    })

    it('readObject takes any block of a chunk and names the first', async () => {
      const image = imageOf(12, MiB)
      await using reader = await opening(store, (await storeImage(store, image, MiB)).versionId)
      const { chunks } = reader.it
      const target = new Uint8Array(LEAF_BYTES_MAX)
      for (let index = 0; index < chunks.count; index += 1) {
        const [position, blocks] = [chunks.firstBlock(index), chunks.blocks(index)]
        for (const block of [position, position + blocks - 1]) {
          const name = { level: CHUNK_LEVEL, position: block }
          const object = await reader.it.readObject(name, target)
          assert.equal(object?.position, position)
          assert.equal(object?.rawBytes, bytesOfBlocks(image.length, position, blocks))
          assert.equal(object?.storedBytes, chunks.storedBytes(index))
          assert.ok(object.storedBytes <= object.rawBytes)
        }
      }
    })

    it('readObject has nothing where everything is zero, and where there is nothing', async () => {
      const committed = await storeImage(store, new Uint8Array(40 * MiB), MiB)
      await using reader = await opening(store, committed.versionId)
      assert.equal(committed.storedBytes, 0)
      assert.equal(reader.it.chunks.count, 0)
      const target = new Uint8Array(LEAF_BYTES_MAX)
      for (const level of [0, 1, 2, 3, 4]) {
        for (const position of [0, 1, 2 ** 32 - 1]) {
          assert.equal(await reader.it.readObject({ level, position }, target), undefined)
        }
      }
      assert.deepEqual(await readBack(store, committed), new Uint8Array(40 * MiB))
    })

    it('readHashes are those of the chunks', async () => {
      const image = imageOf(13, 17 * MiB)
      await using reader = await opening(store, (await storeImage(store, image, MiB)).versionId)
      const hashes = await reader.it.readHashes()
      const { chunks } = reader.it
      assert.equal(hashes.length, chunks.count * HASH_BYTES)
      for (let index = 0; index < chunks.count; index += 1) {
        assert.deepEqual(
          new Uint8Array(contentHash(await decodedChunk(reader.it, chunks.firstBlock(index)))),
          new Uint8Array(hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)),
        )
      }
    })

    it('readObject serves many reads at once', async () => {
      const image = imageOf(5, 2 * MiB)
      await using reader = await opening(store, (await storeImage(store, image, MiB)).versionId)
      const { chunks } = reader.it
      const blocks = Array.from({ length: chunks.count }, (_, index) => chunks.firstBlock(index))
      const all = await Promise.all(blocks.map((block) => decodedChunk(reader.it, block)))
      for (const [index, bytes] of all.entries()) {
        const begin = (blocks[index] ?? 0) * BLOCK_BYTES
        assert.deepEqual(new Uint8Array(bytes), image.subarray(begin, begin + bytes.length))
      }
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
      await using reader = await opening(store, versionId)
      await store.removeVersion(versionId)
      await store.removeVersion(versionId)
      assert.ok(!(await store.listVersions()).includes(versionId))
      assert.ok((await store.listVersions()).includes(kept.versionId))
      await store.collectGarbage(new AbortController().signal)
      assert.deepEqual(await contentOf(reader.it), image)
      assert.deepEqual(await readBack(store, kept), imageOf(9, 1000))
    })

    it('openVersion refuses what it does not have, whatever it is called', async () => {
      for (const id of ['0'.repeat(64), 'x', '', '../../etc', `${'0'.repeat(63)}/`]) {
        await assert.rejects(
          store.openVersion(id),
          (error) => error instanceof BootwireError && error.code === 'NOT_FOUND',
        )
      }
    })

    it('commit refuses an image without a byte', async () => {
      await assert.rejects((await store.createVersion()).commit(), { code: 'IMAGE_EMPTY' })
    })

    it('check finds nothing wrong', async () => {
      const options = { readDataShare: 1, repair: false }
      const report = await store.check(options, () => undefined, new AbortController().signal)
      assert.deepEqual(report.damages, [])
      assert.deepEqual(report.repairs, [])
      assert.equal(report.versions, (await store.listVersions()).length)
    })
  })
}

/** Bytes that compress like those of a system: text, repeated with changes, and zeros. */
export function imageOf(seed: number, sizeBytes: number): Uint8Array {
  const image = new Uint8Array(sizeBytes)
  for (let at = 0; at < sizeBytes; at += 1) {
    const block = at >>> 12
    const isZero = block % 5 === 3 || block % 64 > 52
    image[at] = isZero ? 0 : (at * seed + (block ^ seed) + ((at * at) >>> 9)) & 0x7f
  }
  return image
}

export async function storeImage(
  store: ChunkStore,
  image: Uint8Array,
  pieceBytes: number,
): Promise<CommittedVersion> {
  const writer = await store.createVersion()
  try {
    for (let at = 0; at < image.length; at += pieceBytes) {
      await writer.append(image.subarray(at, at + pieceBytes))
    }
    return await writer.commit()
  } finally {
    await writer.abort()
  }
}

export async function readBack(
  store: ChunkStore,
  { versionId, sizeBytes }: Pick<CommittedVersion, 'versionId' | 'sizeBytes'>,
): Promise<Uint8Array> {
  await using reader = await opening(store, versionId)
  assert.equal(reader.it.sizeBytes, sizeBytes)
  return await contentOf(reader.it)
}

/** The whole content, every chunk proven. */
export async function contentOf(reader: VersionReader): Promise<Uint8Array> {
  const content = new Uint8Array(reader.sizeBytes)
  let next = 0
  for await (const piece of versionContent(reader, new AbortController().signal)) {
    assert.equal(piece.offsetBytes, next)
    if (piece.bytes !== undefined) {
      assert.equal(piece.bytes.length, piece.lengthBytes)
      content.set(piece.bytes, piece.offsetBytes)
    }
    next += piece.lengthBytes
  }
  assert.equal(next, reader.sizeBytes)
  assert.ok(treeLevels(reader.sizeBytes) >= 1)
  return content
}

export async function decodedChunk(reader: VersionReader, block: number): Promise<Uint8Array> {
  const target = new Uint8Array(LEAF_BYTES_MAX)
  const object = await reader.readObject({ level: CHUNK_LEVEL, position: block }, target)
  assert.ok(object !== undefined, `there is a chunk at block ${block}`)
  const stored = target.subarray(0, object.storedBytes)
  const decoded = object.encoding === CHUNK_ENCODING.raw ? stored : zstdDecompressSync(stored)
  assert.equal(decoded.length, object.rawBytes)
  return decoded
}

function assertZero(image: Uint8Array, firstBlock: number, endBlock: number): void {
  const bytes = image.subarray(firstBlock * BLOCK_BYTES, endBlock * BLOCK_BYTES)
  assert.ok(bytes.every((byte) => byte === 0))
}

async function opening(store: ChunkStore, versionId: string) {
  const it = await store.openVersion(versionId)
  return { it, [Symbol.asyncDispose]: () => it.close() }
}
