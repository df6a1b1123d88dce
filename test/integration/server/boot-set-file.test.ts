import assert from 'node:assert/strict'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BootPush } from '#server/stream/boot-push.ts'
import { BootSetFile } from '#server/stream/boot-set-file.ts'
import { BootSetLayout } from '#server/stream/boot-set-layout.ts'
import { SLAB_BYTES } from '#server/stream/slab-pool.ts'
import type { BootListEntry } from '#shared/wire/frame.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { chunkEntries, createBootSet } from '#test/unit/server/stream/boot-set-fixture.ts'

async function createFile() {
  const folder = await createTemporaryFolder()
  const path = join(folder.path, 'boot-set')
  const fixture = await createBootSet()
  const { set, reader } = fixture
  const assemble = (piece: number) => set.assemble(piece, reader, new Uint8Array(SLAB_BYTES))
  const write = () => BootSetFile.write(path, set.layout, assemble)
  await write()
  return { ...fixture, folder, path, assemble, write }
}

describe('BootSetFile', () => {
  it('gives every piece as it was written', async () => {
    const { folder, path, set, assemble } = await createFile()
    await using _ = folder
    await using opened = new AsyncDisposableStack()
    const file = await BootSetFile.open(path, set.layout)
    assert.ok(file !== undefined)
    opened.defer(() => file.close())
    for (let piece = 0; piece < set.layout.pieceCount; piece += 1) {
      const target = new Uint8Array(set.layout.piece(piece).lengthBytes)
      await file.read(piece, target)
      assert.deepEqual(target, await assemble(piece))
    }
    assert.deepEqual(await readdir(folder.path), ['boot-set'])
  })

  it('is not opened when it is missing, cut, of another list, or its header is damaged', async () => {
    const { folder, path, set, write } = await createFile()
    await using _ = folder
    const { layout } = set
    const other = new BootSetLayout(layout.entries.toReversed())
    assert.equal(await BootSetFile.open(path, other), undefined)
    assert.equal(await BootSetFile.open(join(folder.path, 'none'), layout), undefined)
    const bytes = await readFile(path)
    const headerBytes = 16 + layout.listFrame.length + 4 * layout.pieceCount
    for (let at = 0; at < headerBytes; at += 7) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] ?? 0) ^ 1
      await writeFile(path, damaged)
      assert.equal(await BootSetFile.open(path, layout), undefined, `byte ${at}`)
    }
    await write()
    await truncate(path, bytes.length - 1)
    assert.equal(await BootSetFile.open(path, layout), undefined)
    await truncate(path, 5)
    assert.equal(await BootSetFile.open(path, layout), undefined)
  })

  it('never gives a piece with a flipped bit', async () => {
    const { folder, path, set } = await createFile()
    await using _ = folder
    const { layout } = set
    const bytes = await readFile(path)
    const at = bytes.length - layout.bytes + layout.piece(1).offsetBytes + 1000
    bytes[at] = (bytes[at] ?? 0) ^ 0x10
    await writeFile(path, bytes)
    await using opened = new AsyncDisposableStack()
    const file = await BootSetFile.open(path, layout)
    assert.ok(file !== undefined)
    opened.defer(() => file.close())
    await file.read(0, new Uint8Array(layout.piece(0).lengthBytes))
    const target = new Uint8Array(layout.piece(1).lengthBytes)
    await assert.rejects(file.read(1, target), { code: 'CHUNK_CORRUPT' })
  })

  it('leaves the old file when the new one cannot be written', async () => {
    const { folder, path, set } = await createFile()
    await using _ = folder
    const before = await readFile(path)
    const failing = BootSetFile.write(path, set.layout, async (piece) => {
      if (piece === 1) throw new Error('a bad sector')
      return new Uint8Array(set.layout.piece(piece).lengthBytes)
    })
    await assert.rejects(failing, /a bad sector/)
    assert.deepEqual(await readFile(path), before)
    assert.deepEqual(await readdir(folder.path), ['boot-set'])
  })
})

describe('BootSet over a file', () => {
  it('takes a damaged piece from the store, and says so once', async () => {
    const { folder, path, set, reader, damages, assemble } = await createFile()
    await using _ = folder
    const bytes = await readFile(path)
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
    await writeFile(path, bytes)
    const file = await BootSetFile.open(path, set.layout)
    assert.ok(file !== undefined)
    await set.useFile(file)
    const last = set.layout.pieceCount - 1
    await Promise.all([set.load(last, reader), set.load(last, reader), set.load(0, reader)])
    assert.deepEqual(set.piece(last)?.bytes, await assemble(last))
    assert.deepEqual([damages.length, set.hasFile], [1, false])
    await set.close()
  })

  it('gives an object that was lost only with the bytes that were read since', async () => {
    const { folder, path, set, reader, store, assemble } = await createFile()
    await using _ = folder
    const entry = chunkEntries(set.layout)[7] ?? 0
    const { level, position } = set.layout.entries[entry] as BootListEntry
    const piece = set.layout.pieceOf(entry)
    store.corruptBlock = position
    await set.load(piece, reader)
    store.corruptBlock = undefined // the disk answers again, and the file is ready
    const file = await BootSetFile.open(path, set.layout)
    assert.ok(file !== undefined)
    await set.useFile(file)
    const push = new BootPush(set, reader)
    assert.equal(push.find(level, position), undefined)
    const loading = push.load(level, position)
    assert.equal(push.find(level, position), undefined, 'while it is being read')
    await loading
    const found = push.find(level, position)
    const begin = set.layout.startOf(entry) - set.layout.piece(piece).offsetBytes
    const end = set.layout.startOf(entry + 1) - set.layout.piece(piece).offsetBytes
    const expected = (await assemble(piece)).slice(begin, end)
    const bytes = found?.slab.bytes.subarray(found.begin, found.end)
    assert.ok(Buffer.from(expected).equals(bytes ?? Buffer.alloc(0)))
    await set.close()
  })

  it('closes a file that comes when the set is closed, or has one', async () => {
    const { folder, path, set, reader } = await createFile()
    await using _ = folder
    const openIt = async () => {
      const file = await BootSetFile.open(path, set.layout)
      assert.ok(file !== undefined)
      return file
    }
    const files = [await openIt(), await openIt(), await openIt()] as const
    await set.useFile(files[0])
    await set.useFile(files[1])
    await set.load(0, reader)
    assert.ok(set.piece(0) !== undefined)
    await set.close()
    await set.useFile(files[2])
    assert.equal(set.hasFile, false)
    const target = new Uint8Array(set.layout.piece(0).lengthBytes)
    for (const file of files) await assert.rejects(file.read(0, target), /closed|EBADF/)
  })
})
