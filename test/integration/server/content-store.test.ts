import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { CommittedVersion } from '#server/store/chunk-store.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { decodeIndex, encodeIndex } from '#server/store/packs/pack-format.ts'
import { NODE_DISK, type StoreDisk } from '#server/store/store-disk.ts'
import { PlaceTable } from '#server/store/versions/place-table.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { signVersionRoot } from '#shared/manifest/version-root.ts'
import { MiB } from '#shared/units.ts'
import { CHUNK_LEVEL } from '#shared/wire/frame.ts'
import {
  chunkStoreSuite,
  contentOf,
  imageOf,
  readBack,
  storeImage,
} from '#test/conformance/chunk-store-suite.ts'
import { openStore, openTemporaryStore } from '#test/support/store-fixture.ts'
import { filesIn, flip, noise } from '#test/support/store-scenarios.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)
const GOLDEN = fileURLToPath(new URL('../../golden/store/format-2', import.meta.url))
const never = new AbortController().signal

chunkStoreSuite('ContentStore conforms', openTemporaryStore)

describe('ContentStore shares chunks', () => {
  it('of versions before, and within an image', async () => {
    await using opened = await openTemporaryStore()
    const [a, b] = [noise(1, 2 * MiB), noise(2, MiB)]
    const first = await storeImage(opened.store, a, MiB)
    assert.equal(first.sharedBytes, 0)
    const second = await storeImage(opened.store, bytesOf(a, b, a), MiB)
    // What is cut across the seams is new.
    assert.ok(second.storedBytes - second.sharedBytes < b.length + 512 * 1024)
    const again = await storeImage(opened.store, a, MiB)
    assert.equal(again.sharedBytes, again.storedBytes)
    assert.ok((await packBytes(opened.folder)) < 3.6 * MiB)
  })

  it('of imports that run at the same time, whichever of them goes on', async () => {
    await using opened = await openTemporaryStore()
    const image = noise(3, 34 * MiB)
    const writers = await Promise.all([1, 2, 3].map(() => opened.store.createVersion()))
    await Promise.all(writers.map((writer) => append(writer, image)))
    const [first, second, third] = writers
    await first?.abort()
    const committed = await Promise.all([second?.commit(), third?.commit()])
    for (const each of committed) {
      assert.ok(each !== undefined)
      assert.deepEqual(await readBack(opened.store, each), image)
    }
    assert.ok((await packBytes(opened.folder)) < 36 * MiB, 'nothing is stored twice')
  })

  it('of an import that is given up while another waits for them', async () => {
    await using opened = await openTemporaryStore()
    let hasWaited = false
    // Which of the two comes first is not ours to say.
    for (let round = 0; round < 20 && !hasWaited; round += 1) {
      const image = noise(50 + round, 16 * MiB)
      const writers = await Promise.all([1, 2].map(() => opened.store.createVersion()))
      await Promise.all(writers.map((writer) => append(writer, image)))
      await writers[0]?.abort()
      const committed = await writers[1]?.commit()
      assert.ok(committed !== undefined)
      assert.deepEqual(await readBack(opened.store, committed), image)
      hasWaited = committed.sharedBytes === committed.storedBytes
    }
    assert.ok(hasWaited)
  })

  it('of an import that is not done, and has them durable', async () => {
    await using opened = await openTemporaryStore()
    await using copy = await createTemporaryFolder()
    const image = noise(6, 16 * MiB)
    const writers = await Promise.all([1, 2].map(() => opened.store.createVersion()))
    await Promise.all(writers.map((writer) => append(writer, image)))
    const committed = await writers[1]?.commit()
    await cp(opened.folder, copy.path, { recursive: true })
    const store = await openStore(copy.path)
    assert.ok(committed !== undefined)
    assert.deepEqual(await readBack(store, committed), image)
    assert.deepEqual((await check(store, 0, false)).damages, [])
    await store.close()
    await writers[0]?.abort()
    assert.deepEqual(await readBack(opened.store, committed), image)
  })

  it('and gives room back when an import that nobody shares with is given up', async () => {
    await using opened = await openTemporaryStore()
    const writer = await opened.store.createVersion()
    await append(writer, noise(4, 20 * MiB))
    await writer.abort()
    assert.deepEqual(await filesIn(opened.folder, ''), [])
  })
})

describe('ContentStore finds damage', () => {
  it('of every bit of a chunk, and names file and offset', async () => {
    await using opened = await openTemporaryStore()
    const { versionId } = await storeImage(opened.store, noise(5, 8192), MiB)
    const [pack] = await filesIn(opened.folder, '.pack')
    assert.ok(pack !== undefined)
    const { size } = await stat(pack)
    for (const position of [64, 1000, size - 1]) {
      await flip(pack, position)
      const reader = await opened.store.openVersion(versionId)
      const name = { level: CHUNK_LEVEL, position: 0 }
      await assert.rejects(reader.readObject(name, new Uint8Array(LEAF_BYTES_MAX)), (error) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'CHUNK_CORRUPT')
        assert.ok(error.message.includes(`"${pack}" at byte 64 `), error.message)
        return true
      })
      await reader.close()
      await flip(pack, position)
    }
  })

  it('of every file of a version', async () => {
    await using opened = await openTemporaryStore()
    const { versionId } = await storeImage(opened.store, noise(6, 40_000), MiB)
    for (const name of ['root', 'places', 'nodes']) {
      const path = join(opened.folder, 'versions', versionId, name)
      const { size } = await stat(path)
      for (const position of [0, 9, Math.floor(size / 2), size - 1]) {
        await flip(path, position)
        await assert.rejects(async () => {
          const reader = await opened.store.openVersion(versionId)
          try {
            await contentOf(reader)
          } finally {
            await reader.close()
          }
        }, /BW-E|STATE_UNREADABLE|Cannot read/)
        await flip(path, position)
      }
      await truncate(path, size - 1)
      await assert.rejects(opened.store.openVersion(versionId), { code: 'STATE_UNREADABLE' })
      await rm(path)
      await assert.rejects(opened.store.openVersion(versionId), { code: 'STATE_UNREADABLE' })
      await storeImage(opened.store, noise(6, 40_000), MiB)
    }
  })

  it('and mends it in all versions when an image that has the chunk is imported', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const shared = noise(7, MiB)
    const first = bytesOf(shared, imageOf(1, MiB))
    const second = bytesOf(shared, noise(8, MiB))
    const one = await storeImage(store, first, MiB)
    const two = await storeImage(store, second, MiB)
    await using reader = closing(await store.openVersion(one.versionId))
    for (const path of await filesIn(folder, '.pack')) await flip(path, 5000)
    await assert.rejects(contentOf(reader.it), { code: 'CHUNK_CORRUPT' })
    assert.equal((await storeImage(store, second, MiB)).versionId, two.versionId)
    assert.deepEqual(await readBack(store, two), second)
    assert.deepEqual(await readBack(store, one), first)
    assert.deepEqual(await contentOf(reader.it), first, 'also for readers that are open')
    const report = await check(store, 1, false)
    assert.deepEqual(report.damages, [])
  })

  it('check says what is wrong and whom it hits, repair forgets it, an import mends it', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const shared = noise(9, MiB)
    const first = bytesOf(shared, noise(10, MiB))
    const second = bytesOf(noise(11, MiB), shared)
    const ids = [await storeImage(store, first, MiB), await storeImage(store, second, MiB)]
    const third = await storeImage(store, noise(12, 50_000), MiB)
    const path = await packWith(folder, first.subarray(100_000, 100_016))
    await flip(path, (await readFile(path)).indexOf(Buffer.from(first.subarray(100_000, 100_016))))
    assert.deepEqual((await check(store, 0, false)).damages, [], 'data is not read')
    const found = await check(store, 1, false)
    assert.equal(found.damages.length, 1)
    assert.match(found.damages[0]?.text ?? '', /^The chunk in ".*\.pack" at byte \d+ is damaged/)
    assert.deepEqual(
      [...(found.damages[0]?.versionIds ?? [])].sort(),
      ids.map(({ versionId }) => versionId).sort(),
    )
    const repaired = await check(store, 1, true)
    assert.ok(repaired.repairs.length >= 3, repaired.repairs.join('\n'))
    assert.deepEqual(
      repaired.incompleteIds.toSorted(),
      ids.map(({ versionId }) => versionId).sort(),
    )
    const left = await check(store, 1, false)
    assert.deepEqual(
      left.damages.map(({ text }) => text.replace(/[0-9a-f]{64}/, 'V')),
      Array(2).fill('Version V: 1 of its chunks were damaged and are no longer there'),
    )
    await storeImage(store, first, MiB)
    assert.deepEqual((await check(store, 1, false)).damages, [])
    await rm(join(folder, 'versions', third.versionId, 'places'))
    const { damages, incompleteIds } = await check(store, 0, true)
    assert.deepEqual([damages.length, incompleteIds], [1, []], 'made anew, nothing to import')
    for (const [index, image] of [first, second].entries()) {
      const version = ids[index]
      assert.ok(version !== undefined)
      assert.deepEqual(await readBack(store, version), image)
    }
    assert.deepEqual(await readBack(store, third), noise(12, 50_000))
  })

  it('check tells of packs and indexes that are gone, and repair goes on without them', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const image = noise(13, 400_000)
    const { versionId } = await storeImage(store, image, MiB)
    const kept = await storeImage(store, noise(14, 400_000), MiB)
    const lost = await packWith(folder, image.subarray(0, 16))
    await rm(lost)
    const found = await check(store, 0, true)
    assert.deepEqual(
      found.damages.map(({ versionIds }) => versionIds),
      [[versionId]],
    )
    assert.match(found.damages[0]?.text ?? '', /cannot be used: ENOENT/)
    const reader = await store.openVersion(versionId)
    await assert.rejects(contentOf(reader), { code: 'CHUNK_CORRUPT' })
    await reader.close()
    await storeImage(store, image, MiB)
    assert.deepEqual(await readBack(store, { versionId, sizeBytes: image.length }), image)
    for (const path of await filesIn(folder, '.index')) await rm(path)
    assert.equal((await check(store, 0, true)).damages.length, 2)
    assert.deepEqual((await check(store, 1, false)).damages, [])
    assert.deepEqual(await readBack(store, kept), noise(14, 400_000))
  })

  it('check tells of a pack that is cut off, without reading it', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const { versionId } = await storeImage(store, noise(16, 400_000), MiB)
    const [pack] = await filesIn(folder, '.pack')
    await truncate(pack ?? '', (await stat(pack ?? '')).size - 1)
    const { damages } = await check(store, 0, false)
    assert.equal(damages.length, 1)
    assert.match(damages[0]?.text ?? '', /the pack is cut off before its end$/)
    assert.deepEqual(damages[0]?.versionIds, [versionId])
  })

  it('check and repair sign a version anew that another key had signed', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const { versionId } = await storeImage(store, noise(17, 5000), MiB)
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const keyPem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const signerKey = pair.publicKey.export({ type: 'spki', format: 'der' })
    const sign = (record: Uint8Array) => signVersionRoot(record, keyPem, signerKey)
    const other = await ContentStore.open(folder, { sign })
    const found = await check(other, 0, true)
    assert.match(found.damages[0]?.text ?? '', /signed by another key than that of this server$/)
    assert.deepEqual((await check(other, 0, false)).damages, [])
    await other.close()
    const reader = await store.openVersion(versionId)
    assert.deepEqual(Buffer.from(reader.signedRoot.signerKey), signerKey)
    await reader.close()
  })

  it('check reads the share of the data it is told to', async () => {
    await using opened = await openTemporaryStore()
    await storeImage(opened.store, noise(15, 8 * MiB), MiB)
    const all = await check(opened.store, 1, false)
    const half = await check(opened.store, 0.5, false)
    assert.equal(all.chunksRead, all.chunks)
    assert.ok(half.chunksRead > 0 && half.chunksRead < all.chunks)
    assert.equal((await check(opened.store, 0, false)).chunksRead, 0)
  })
})

describe('ContentStore.collectGarbage', () => {
  it('removes what no version holds, and moves the little that one does', async () => {
    await using opened = await openTemporaryStore()
    const { store, folder } = opened
    const small = noise(20, 600_000)
    const removed = await storeImage(store, bytesOf(small, noise(21, 4 * MiB)), MiB)
    const kept = await storeImage(store, bytesOf(small, noise(22, 100_000)), MiB)
    await using reader = closing(await store.openVersion(kept.versionId))
    assert.deepEqual(await store.collectGarbage(never), NOTHING)
    await store.removeVersion(removed.versionId)
    const report = await store.collectGarbage(never)
    assert.ok(report.removedBytes > 3.5 * MiB && report.removedChunks > 50)
    assert.ok((await packBytes(folder)) < MiB)
    assert.deepEqual(await contentOf(reader.it), bytesOf(small, noise(22, 100_000)))
    assert.deepEqual(await readBack(store, kept), bytesOf(small, noise(22, 100_000)))
    assert.deepEqual((await check(store, 1, false)).damages, [])
    await store.removeVersion(kept.versionId)
    await store.collectGarbage(never)
    assert.deepEqual(await filesIn(folder, ''), [])
  })

  it('keeps packs that are mostly alive and says how much is dead in them', async () => {
    await using opened = await openTemporaryStore()
    const { store } = opened
    const large = noise(23, 4 * MiB)
    const removed = await storeImage(store, bytesOf(large, noise(24, MiB)), MiB)
    await storeImage(store, large, MiB)
    await store.removeVersion(removed.versionId)
    const report = await store.collectGarbage(never)
    assert.equal(report.removedBytes, 0)
    assert.ok(report.keptDeadBytes > 0.9 * MiB && report.keptDeadBytes < 1.2 * MiB)
  })

  it('can be given up', async () => {
    await using opened = await openTemporaryStore()
    await storeImage(opened.store, noise(25, 100_000), MiB)
    await assert.rejects(opened.store.collectGarbage(AbortSignal.abort()), { name: 'AbortError' })
  })

  it('spares chunks that an import has decided to share', async () => {
    await using opened = await openTemporaryStore()
    const { store } = opened
    const image = noise(26, 16 * MiB)
    const { versionId } = await storeImage(store, image, MiB)
    await store.removeVersion(versionId)
    const writer = await store.createVersion()
    await append(writer, image)
    // As many spans as can be under way: then the first one is done.
    for (let span = 0; span < SPANS_UNDER_WAY; span += 1) {
      await writer.append(noise(100 + span, 4096))
      await writer.appendZeros(16 * MiB - 4096)
    }
    assert.equal((await store.collectGarbage(never)).removedChunks, 0)
    const committed = await writer.commit()
    assert.ok(committed.sharedBytes > 15 * MiB)
    assert.deepEqual((await readBack(store, committed)).subarray(0, image.length), image)
  })

  it('spares packs that a version came to hold since it looked', async () => {
    const disk = new HookedDisk()
    await using opened = await openTemporaryStore(disk)
    const { store } = opened
    const images = [noise(27, 300_000), noise(28, 300_000)] as const
    for (const image of images) {
      await store.removeVersion((await storeImage(store, image, MiB)).versionId)
    }
    let committed: CommittedVersion[] = []
    disk.onceBefore('removeFile', async () => {
      // The other one is dead as well, but not taken yet: this import shares what is left.
      committed = [await storeImage(store, images[1], MiB), await storeImage(store, images[0], MiB)]
    })
    await store.collectGarbage(never)
    const [other, taken] = committed
    assert.ok(other !== undefined && taken !== undefined)
    assert.deepEqual(await readBack(store, other), images[1])
    assert.deepEqual(await readBack(store, taken), images[0])
    assert.deepEqual((await check(store, 1, false)).damages, [])
  })

  it('has imports store chunks again that it is moving', async () => {
    const disk = new HookedDisk()
    await using opened = await openTemporaryStore(disk)
    const { store } = opened
    const [small, large] = [noise(29, 100_000), noise(30, 500_000)]
    const removed = await storeImage(store, bytesOf(small, large), MiB)
    const kept = await storeImage(store, small, MiB)
    await store.removeVersion(removed.versionId)
    // While an import runs, the index of chunks is in memory with what was there at its beginning.
    const running = await store.createVersion()
    const committed: CommittedVersion[] = []
    disk.onceBefore('createFile', async () => {
      committed.push(await storeImage(store, bytesOf(small, large), MiB))
    })
    const report = await store.collectGarbage(never)
    await running.abort()
    assert.ok(report.removedBytes > 400_000)
    assert.equal(committed[0]?.sharedBytes, 0)
    assert.ok(committed[0] !== undefined)
    assert.deepEqual(await readBack(store, committed[0]), bytesOf(small, large))
    assert.deepEqual(await readBack(store, kept), small)
    assert.deepEqual((await check(store, 1, false)).damages, [])
  })

  it('takes nothing from imports, readers and removals that run with it', async () => {
    await using opened = await openTemporaryStore()
    const { store } = opened
    const pieces = Array.from({ length: 6 }, (_, index) => noise(30 + index, 300_000))
    const random = numbers(7)
    const images = new Map<string, Uint8Array>()
    const importOne = async () => {
      const chosen = pieces.filter(() => random() % 2 === 0)
      const image = bytesOf(...chosen, noise(random(), 4096))
      const { versionId } = await storeImage(store, image, 70_000)
      images.set(versionId, image)
      await using reader = closing(await store.openVersion(versionId))
      await store.collectGarbage(never)
      assert.deepEqual(await contentOf(reader.it), image)
      if (random() % 2 === 0) {
        images.delete(versionId)
        await store.removeVersion(versionId)
        assert.deepEqual(await contentOf(reader.it), image)
      }
    }
    for (let round = 0; round < 4; round += 1) {
      await Promise.all([importOne(), importOne(), importOne(), store.collectGarbage(never)])
    }
    assert.deepEqual(await store.listVersions(), [...images.keys()].sort())
    for (const [versionId, image] of images) {
      assert.deepEqual(await readBack(store, { versionId, sizeBytes: image.length }), image)
    }
    assert.deepEqual((await check(store, 1, false)).damages, [])
  })
})

describe('ContentStore', () => {
  it('removes what a killed server left, and shows none of it', async () => {
    await using opened = await openTemporaryStore()
    const { folder } = opened
    const committed = await storeImage(opened.store, imageOf(1, 100_000), MiB)
    const script = fileURLToPath(new URL('../../support/interrupted-write.ts', import.meta.url))
    const child = spawn(process.execPath, [script, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.equal((await readdir(join(folder, 'versions'))).length, 2)
    assert.equal((await readdir(join(folder, 'packs'))).length, 3)
    await mkdir(join(folder, 'versions', 'old-0123'))
    await writeFile(join(folder, 'versions', 'old-0123', 'nodes'), 'half removed')
    const store = await openStore(folder)
    assert.deepEqual(await store.listVersions(), [committed.versionId])
    assert.deepEqual(await readdir(join(folder, 'versions')), [committed.versionId])
    assert.equal((await readdir(join(folder, 'packs'))).length, 2)
    await store.close()
  })

  it('says which folder is full, and leaves nothing in it', async () => {
    await using temporary = await createTemporaryFolder()
    const { path } = temporary
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path])
    try {
      const store = await openStore(join(path, 'store'))
      await assert.rejects(storeImage(store, noise(40, 4 * MiB), MiB), {
        code: 'STORE_FULL',
        message: `Cannot write to "${join(path, 'store', 'packs')}": the disk is full`,
      })
      assert.deepEqual(await filesIn(path, ''), [])
      const image = noise(41, 400_000)
      assert.deepEqual(await readBack(store, await storeImage(store, image, MiB)), image)
      await store.close()
    } finally {
      await run('umount', [path])
    }
  })

  it('reads the store of format 2 that is kept in the repository', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = join(temporary.path, 'store')
    await cp(GOLDEN, folder, { recursive: true })
    const store = await openStore(folder)
    const [versionId] = await store.listVersions()
    assert.equal(versionId, 'b2a361452ffbd2542e1160cac30affe5fc8aa361f2e8ce5125dca358b5fd3fcb')
    const image = goldenImage()
    assert.deepEqual(await readBack(store, { versionId, sizeBytes: image.length }), image)
    // It was cut with other parameters than are used today, which its root says.
    const again = await storeImage(store, image, MiB)
    assert.notEqual(again.versionId, versionId)
    assert.deepEqual(await readBack(store, again), image)
    // Nothing of it is damaged; the key it was signed with is gone.
    const { damages } = await check(store, 1, false)
    assert.deepEqual(
      damages.map(({ text }) => text.replace(versionId, 'V')),
      ['Version V: it was signed by another key than that of this server'],
    )
    await store.close()
  })

  it('writes indexes and places as they are kept in the repository', async () => {
    const [index] = await filesIn(GOLDEN, '.index')
    const [places] = await filesIn(GOLDEN, '/places')
    assert.ok(index !== undefined && places !== undefined)
    const indexBytes = await readFile(index)
    const { entries, packBytes } = decodeIndex(indexBytes, index)
    assert.deepEqual(Buffer.from(encodeIndex(entries, packBytes)), indexBytes)
    const placesBytes = await readFile(places)
    const encoded = PlaceTable.decode(placesBytes, places).encode()
    assert.deepEqual(Buffer.from(encoded), placesBytes)
  })
})

/** More than the store has workers for, on any machine. */
const SPANS_UNDER_WAY = 10

/** A disk on which something else happens before a change is made. */
class HookedDisk implements StoreDisk {
  readonly createFile = this.#hooked('createFile')
  readonly rename = this.#hooked('rename')
  readonly removeFile = this.#hooked('removeFile')
  readonly createFolder = this.#hooked('createFolder')
  readonly removeFolder = this.#hooked('removeFolder')
  readonly syncFolder = this.#hooked('syncFolder')
  #next: { readonly call: keyof StoreDisk; readonly work: () => Promise<void> } | undefined

  onceBefore(call: keyof StoreDisk, work: () => Promise<void>): void {
    this.#next = { call, work }
  }

  #hooked<Call extends keyof StoreDisk>(call: Call): StoreDisk[Call] {
    const hooked = async (...parameters: [string, string]) => {
      const next = this.#next
      if (next?.call === call) {
        this.#next = undefined
        await next.work()
      }
      return await NODE_DISK[call](...parameters)
    }
    return hooked as StoreDisk[Call]
  }
}

const NOTHING = { removedChunks: 0, removedBytes: 0, keptDeadBytes: 0 }

/** zstd, raw, zeros, a second span, and a short last block. */
function goldenImage(): Uint8Array {
  const image = new Uint8Array(16 * MiB + 5000)
  image.fill(0x61, 0, 40_000)
  image.set(noise(1, 20_000), 40_960)
  image.set(noise(2, 5000), 16 * MiB)
  return image
}

function check(store: ContentStore, readDataShare: number, repair: boolean) {
  return store.check({ readDataShare, repair }, () => undefined, never)
}

async function append(
  writer: { append(bytes: Uint8Array): Promise<void> },
  image: Uint8Array,
): Promise<void> {
  for (let at = 0; at < image.length; at += MiB) await writer.append(image.subarray(at, at + MiB))
}

async function packBytes(folder: string): Promise<number> {
  const paths = await filesIn(folder, '.pack')
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

async function packWith(folder: string, bytes: Uint8Array): Promise<string> {
  for (const path of await filesIn(folder, '.pack')) {
    if ((await readFile(path)).includes(Buffer.from(bytes))) return path
  }
  throw new Error('no pack holds it')
}

function bytesOf(...pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces))
}

function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state >>> 8
  }
}

function closing<T extends { close(): Promise<void> }>(it: T) {
  return { it, [Symbol.asyncDispose]: () => it.close() }
}
