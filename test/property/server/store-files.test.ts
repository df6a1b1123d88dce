/** What the store writes is read to the same; what was changed is refused, and never read wrongly. */
import assert from 'node:assert/strict'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import {
  CHUNK_HEADER_BYTES,
  decodeIndex,
  encodeIndex,
  encodePackHeader,
  IndexEntries,
  type IndexEntry,
  PACK_HEADER_BYTES,
  readChunkHeader,
  writeChunkHeader,
} from '#server/store/packs/pack-format.ts'
import { scanPack } from '#server/store/packs/pack-scan.ts'
import { NODE_DISK } from '#server/store/store-disk.ts'
import { NodesWriter, NodeTable } from '#server/store/versions/nodes-file.ts'
import { decodePlacesHead, type Place, PlaceTable } from '#server/store/versions/place-table.ts'
import { decodeRootFile, encodeRootFile } from '#server/store/versions/version-root-file.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { CUT_TODAY, encodeVersionRoot, versionIdOf } from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { signForTest } from '#test/support/memory-chunk-store.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const UNREADABLE = { code: 'STATE_UNREADABLE' }
const uint32 = fc.nat(0xffff_ffff)
const encoding = fc.constantFrom(CHUNK_ENCODING.raw, CHUNK_ENCODING.zstd)

const place: fc.Arbitrary<Place> = fc.record({
  packId: fc.constantFrom('0123456789abcdef', 'ffffffffffffffff', '0000000000000000'),
  offset: uint32,
  encoding,
  storedBytes: fc.integer({ min: 1, max: 131_072 }),
  checksum: uint32,
})
const placed = fc.array(
  fc.record({
    gap: fc.nat(9),
    blocks: fc.integer({ min: 1, max: 32 }),
    place: fc.option(place, { nil: undefined }),
  }),
  { maxLength: 60 },
)

describe('PlaceTable', () => {
  it('decodes to what was encoded, and finds the chunk of every block', () => {
    fc.assert(
      fc.property(placed, uint32, (chunks, sizeBytes) => {
        const table = tableOf(chunks, sizeBytes)
        const decoded = PlaceTable.decode(table.encode(), 'places')
        assert.equal(decoded.sizeBytes, sizeBytes)
        assert.deepEqual(rowsOf(decoded), rowsOf(table))
        let block = 0
        for (const [index, { gap, blocks }] of chunks.entries()) {
          for (let zeros = 0; zeros < gap; zeros += 1) assert.equal(decoded.indexAt(block++), -1)
          for (let data = 0; data < blocks; data += 1) assert.equal(decoded.indexAt(block++), index)
        }
        assert.equal(decoded.indexAt(block), -1)
        const head = decodePlacesHead(table.encode(), 'places')
        assert.equal(head.lostCount, chunks.filter(({ place }) => !place).length)
        const packs = new Set(chunks.flatMap(({ place }) => place?.packId ?? []))
        assert.deepEqual(new Set(head.packIds), packs)
      }),
    )
  })

  it('forgets packs that no chunk is in any more', () => {
    const table = tableOf([{ gap: 0, blocks: 1, place: somePlace('aaaaaaaaaaaaaaaa') }], 4096)
    table.set(0, somePlace('bbbbbbbbbbbbbbbb'))
    assert.deepEqual(PlaceTable.decode(table.encode(), '').packIds, ['bbbbbbbbbbbbbbbb'])
  })

  it('refuses a file with any bit turned, and one that is cut off', () => {
    fc.assert(
      fc.property(placed, fc.nat(), fc.nat(7), (chunks, at, bit) => {
        const bytes = tableOf(chunks, 1).encode()
        assertRefused(bytes, at, bit, (changed) => PlaceTable.decode(changed, 'places'))
      }),
    )
  })
})

const entry = fc.record({
  hash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  encoding,
  rawBytes: fc.integer({ min: 1, max: 131_072 }),
  storedBytes: fc.integer({ min: 1, max: 131_072 }),
  checksum: uint32,
})

describe('the index of a pack', () => {
  it('decodes to what was encoded, and finds chunks by their offset', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 100 }), (chunks) => {
        const entries = entriesOf(chunks)
        const decoded = decodeIndex(encodeIndex(entries, 12_345), 'index')
        assert.equal(decoded.packBytes, 12_345)
        assert.equal(decoded.entries.count, chunks.length)
        for (const [index, chunk] of chunks.entries()) {
          const found = decoded.entries.get(index)
          assert.deepEqual(
            { ...found, hash: Uint8Array.from(found.hash) },
            {
              ...chunk,
              offset: entries.offset(index),
            },
          )
          assert.equal(decoded.entries.indexOf(found.offset), index)
          assert.equal(decoded.entries.indexOf(found.offset + 1), -1)
        }
      }),
    )
  })

  it('refuses a file with any bit turned, and one that is cut off', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 9 }), fc.nat(), fc.nat(7), (chunks, at, bit) => {
        const bytes = encodeIndex(entriesOf(chunks), 99)
        assertRefused(bytes, at, bit, (changed) => decodeIndex(changed, 'index'))
      }),
    )
  })
})

describe('the header of a chunk', () => {
  it('is read as it was written, and not at all with a bit turned', () => {
    fc.assert(
      fc.property(entry, fc.nat(CHUNK_HEADER_BYTES * 8 - 1), (chunk, bit) => {
        const bytes = new Uint8Array(CHUNK_HEADER_BYTES)
        writeChunkHeader(bytes, 0, chunk)
        const read = readChunkHeader(bytes, 0)
        if (chunk.storedBytes > chunk.rawBytes) assert.equal(read, undefined)
        else assert.deepEqual(read && { ...read, hash: Uint8Array.from(read.hash) }, { ...chunk })
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        assert.equal(readChunkHeader(bytes, 0), undefined)
      }),
    )
  })
})

describe('scanPack', () => {
  it('finds every chunk that is whole, whatever lies between them', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'pack')
    const data = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(data, fc.array(fc.nat(), { maxLength: 4 }), async (chunks, flips) => {
        const pack = packOf(chunks)
        for (const at of flips) {
          const position = PACK_HEADER_BYTES + (at % (pack.bytes.length - PACK_HEADER_BYTES || 1))
          if (position < pack.bytes.length) pack.bytes[position] = (pack.bytes[position] ?? 0) ^ 1
        }
        await writeFile(path, pack.bytes)
        const scanned = await scanPack(path, new AbortController().signal)
        const found = Array.from({ length: scanned.entries.count }, (_, index) =>
          scanned.entries.offset(index),
        )
        const whole = pack.offsets.filter((offset, index) => {
          const length = CHUNK_HEADER_BYTES + (chunks[index]?.length ?? 0)
          const original = pack.original.subarray(offset, offset + length)
          return Buffer.compare(original, pack.bytes.subarray(offset, offset + length)) === 0
        })
        assert.deepEqual(found, whole)
        assert.equal(scanned.damagedAt.length === 0, whole.length === chunks.length)
      }),
      { numRuns: 50 },
    )
  })
})

describe('the file of a tree', () => {
  it('has every node where it was put, and none where there is none', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'nodes')
    const node = fc.record({
      level: fc.integer({ min: 1, max: 4 }),
      position: fc.nat(20),
      bytes: fc.uint8Array({ minLength: 4, maxLength: 200 }),
    })
    const nodes = fc.uniqueArray(node, {
      selector: ({ level, position }) => level * 100 + position,
      maxLength: 20,
    })
    await fc.assert(
      fc.asyncProperty(nodes, async (nodes) => {
        nodes.sort((a, b) => a.level - b.level || a.position - b.position)
        await NODE_DISK.removeFile(path)
        const written = await NODE_DISK.createFile(path)
        const writer = new NodesWriter(written)
        for (const node of nodes) await writer.add(node)
        await writer.finish()
        await written.close()
        await using file = await open(path)
        const table = await NodeTable.read(file, path)
        assert.equal(table.count, nodes.length)
        for (let level = 1; level <= 4; level += 1) {
          for (let position = 0; position <= 20; position += 1) {
            const node = nodes.find((it) => it.level === level && it.position === position)
            const place = table.find(level, position)
            assert.equal(place?.lengthBytes, node?.bytes.length)
            if (place === undefined || node === undefined) continue
            const bytes = new Uint8Array(place.lengthBytes)
            await file.read(bytes, 0, bytes.length, place.offsetBytes)
            assert.deepEqual(bytes, node.bytes)
            assert.equal(place.checksum, crc32(bytes))
          }
        }
      }),
      { numRuns: 30 },
    )
  })
})

describe('the root file', () => {
  it('decodes to what was encoded, and refuses any bit turned and other versions', () => {
    const rootHash = contentHash(new Uint8Array(7))
    const root = signForTest(encodeVersionRoot({ sizeBytes: 5, cut: CUT_TODAY, rootHash }))
    const versionId = versionIdOf(root.record)
    const bytes = encodeRootFile(root)
    const decoded = decodeRootFile(bytes, versionId, 'root')
    assert.deepEqual(Buffer.from(decoded.record), Buffer.from(root.record))
    assert.deepEqual(Buffer.from(decoded.signature), Buffer.from(root.signature))
    assert.deepEqual(Buffer.from(decoded.signerKey), Buffer.from(root.signerKey))
    assert.throws(() => decodeRootFile(bytes, '0'.repeat(64), 'root'), UNREADABLE)
    for (let at = 0; at < bytes.length; at += 1) {
      assertRefused(bytes, at, at % 8, (changed) => decodeRootFile(changed, versionId, 'root'))
    }
  })
})

function tableOf(
  chunks: readonly { gap: number; blocks: number; place: Place | undefined }[],
  sizeBytes: number,
): PlaceTable {
  const table = new PlaceTable(sizeBytes, 1)
  let firstBlock = 0
  for (const { gap, blocks, place } of chunks) {
    firstBlock += gap
    table.add({ firstBlock, blocks }, place)
    firstBlock += blocks
  }
  return table
}

function rowsOf(table: PlaceTable) {
  return Array.from({ length: table.count }, (_, index) => {
    const number = table.packNumber(index)
    const extent = [table.firstBlock(index), table.blocks(index)]
    if (number === undefined) return extent
    const stored = [table.offset(index), table.storedBytes(index), table.encoding(index)]
    return [...extent, table.packIds[number], ...stored, table.checksum(index)]
  })
}

function somePlace(packId: string): Place {
  return { packId, offset: 16, encoding: CHUNK_ENCODING.raw, storedBytes: 1, checksum: 2 }
}

function entriesOf(chunks: readonly Omit<IndexEntry, 'offset'>[]): IndexEntries {
  const entries = new IndexEntries()
  let offset = PACK_HEADER_BYTES
  for (const chunk of chunks) {
    entries.add({ ...chunk, offset })
    offset += CHUNK_HEADER_BYTES + chunk.storedBytes
  }
  return entries
}

function packOf(chunks: readonly Uint8Array[]) {
  const pieces: Uint8Array[] = [encodePackHeader()]
  const offsets: number[] = []
  let offset = PACK_HEADER_BYTES
  for (const data of chunks) {
    const header = new Uint8Array(CHUNK_HEADER_BYTES)
    const lengths = { rawBytes: data.length, storedBytes: data.length }
    const chunk = { hash: contentHash(data), encoding: CHUNK_ENCODING.raw, ...lengths }
    writeChunkHeader(header, 0, { ...chunk, checksum: crc32(data) })
    pieces.push(header, data)
    offsets.push(offset)
    offset += header.length + data.length
  }
  const original = new Uint8Array(Buffer.concat(pieces))
  return { original, bytes: Uint8Array.from(original), offsets }
}

function assertRefused(
  bytes: Uint8Array,
  at: number,
  bit: number,
  decode: (bytes: Uint8Array) => unknown,
): void {
  const changed = Uint8Array.from(bytes)
  const position = at % bytes.length
  changed[position] = (changed[position] ?? 0) ^ (1 << bit)
  assert.throws(() => decode(changed), UNREADABLE)
  assert.throws(() => decode(bytes.subarray(0, position)), UNREADABLE)
}
