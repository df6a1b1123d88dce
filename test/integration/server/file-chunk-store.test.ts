import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { FileChunkStore } from '#server/store/file-chunk-store.ts'
import { MiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import {
  chunkStoreSuite,
  imageOf,
  readBack,
  storeImage,
} from '#test/conformance/chunk-store-suite.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

async function openTemporary() {
  const temporary = await createTemporaryFolder()
  const folder = join(temporary.path, 'store')
  const store = await FileChunkStore.open(folder)
  const dispose = async () => {
    await store.close()
    await temporary[Symbol.asyncDispose]()
  }
  return { folder, store, [Symbol.asyncDispose]: dispose }
}

chunkStoreSuite('FileChunkStore conforms', openTemporary)

/** Turns one bit of a file over. */
async function flip(path: string, positionBytes: number): Promise<void> {
  await using file = await open(path, 'r+')
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, positionBytes)
  byte[0] = (byte[0] ?? 0) ^ 0x10
  await file.write(byte, 0, 1, positionBytes)
}

describe('FileChunkStore', () => {
  it('finds every flipped bit of the data', async () => {
    await using opened = await openTemporary()
    const { store, folder } = opened
    const { versionId, storedBytes } = await storeImage(store, imageOf(1, 60_000), MiB)
    const data = join(folder, versionId, 'data')
    for (const position of [0, Math.floor(storedBytes / 2), storedBytes - 1]) {
      await flip(data, position)
      const reader = await store.openVersion(versionId)
      await assert.rejects(reader.readChunk(0, new Uint8Array(CHUNK_BYTES_MAX)), {
        code: 'CHUNK_CORRUPT',
      })
      await reader.close()
      await flip(data, position)
    }
  })

  it('finds a damaged index and data that are cut off', async () => {
    await using opened = await openTemporary()
    const { store, folder } = opened
    const { versionId, storedBytes } = await storeImage(store, imageOf(1, 300_000), MiB)
    const index = join(folder, versionId, 'index')
    for (const position of [0, 9, 20, 33, 64 + 3, 64 + 16 * 4]) {
      await flip(index, position)
      await assert.rejects(store.openVersion(versionId), { code: 'STATE_UNREADABLE' })
      await flip(index, position)
    }
    await truncate(join(folder, versionId, 'data'), storedBytes - 1)
    await assert.rejects(store.openVersion(versionId), { code: 'STATE_UNREADABLE' })
  })

  it('mends a damaged version when its image is imported again', async () => {
    await using opened = await openTemporary()
    const { store, folder } = opened
    const image = imageOf(1, 300_000)
    const committed = await storeImage(store, image, MiB)
    await flip(join(folder, committed.versionId, 'data'), 10)
    assert.deepEqual(await storeImage(store, image, MiB), committed)
    assert.deepEqual(await readBack(store, committed), image)
  })

  it('removes what a killed server left, and shows none of it', async () => {
    await using opened = await openTemporary()
    const { folder } = opened
    const committed = await storeImage(opened.store, imageOf(1, 100_000), MiB)
    const script = fileURLToPath(new URL('../../support/interrupted-write.ts', import.meta.url))
    const child = spawn(process.execPath, [script, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.equal((await readdir(folder)).length, 2)
    await mkdir(join(folder, 'old-0123'))
    await writeFile(join(folder, 'old-0123', 'data'), 'half removed')
    const store = await FileChunkStore.open(folder)
    assert.deepEqual(await store.listVersions(), [committed.versionId])
    assert.deepEqual(await readdir(folder), [committed.versionId])
    await store.close()
  })

  it('says which folder is full, and leaves nothing in it', async () => {
    await using temporary = await createTemporaryFolder()
    const { path } = temporary
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path])
    try {
      const store = await FileChunkStore.open(join(path, 'store'))
      const noise = crypto.getRandomValues(new Uint8Array(65_536))
      const image = Uint8Array.from(
        { length: 4 * MiB },
        (_, at) => (noise[at % 65_536] ?? 0) + (at >>> 16),
      )
      await assert.rejects(storeImage(store, image, MiB), {
        code: 'STORE_FULL',
        message: `Cannot write to "${join(path, 'store')}": the disk is full`,
      })
      await store.close()
      assert.deepEqual(await readdir(join(path, 'store')), [])
    } finally {
      await run('umount', [path])
    }
  })

  it('opens the version of format 1 that is kept in the repository', async () => {
    await using opened = await openTemporary()
    const golden = fileURLToPath(new URL('../../golden/store/format-1', import.meta.url))
    const { store, folder } = opened
    const { versionId } = JSON.parse(await readFile(join(golden, 'version.json'), 'utf8'))
    await cp(golden, join(folder, versionId), { recursive: true })
    const image = goldenImage()
    assert.deepEqual(await readBack(store, { versionId, sizeBytes: image.length }), image)
    const other = await openTemporary()
    await using _ = other
    assert.equal((await storeImage(other.store, image, MiB)).versionId, versionId)
  })
})

/** A zstd chunk, a zero chunk, a raw chunk, and a short last one. */
function goldenImage(): Uint8Array {
  const image = new Uint8Array(3 * 65_536 + 1000)
  image.fill(0x61, 0, 65_536)
  let state = 1
  for (let at = 2 * 65_536; at < 3 * 65_536; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    image[at] = state >>> 16
  }
  image.fill(0x62, 3 * 65_536)
  return image
}
