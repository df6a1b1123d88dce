import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { planBootList } from '#server/traces/boot-list.ts'
import { BLOCK_BYTES, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { blockImage } from '#test/support/block-image.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'

/** Two spans with data at their beginnings. */
async function openVersion() {
  const image = new Uint8Array((SPAN_BLOCKS + 100) * BLOCK_BYTES)
  image.set(blockImage(50, 'first'))
  image.set(blockImage(50, 'second'), SPAN_BLOCKS * BLOCK_BYTES)
  const store = new MemoryChunkStore()
  return { store, reader: await store.openVersion(store.add(image).versionId) }
}

describe('planBootList', () => {
  it('has each node once, from the root down, before the first chunk that needs it', async () => {
    const { reader } = await openVersion()
    const second = reader.chunks.firstBlock(1)
    const entries = await planBootList([SPAN_BLOCKS, second, 0, SPAN_BLOCKS], reader)
    assert.deepEqual(
      entries.map(({ level, position }) => [level, position]),
      [
        [2, 0],
        [1, 1],
        [0, SPAN_BLOCKS],
        [1, 0],
        [0, second],
        [0, 0],
      ],
    )
    assert.equal(
      entries[2]?.storedBytes,
      reader.chunks.storedBytes(reader.chunks.indexAt(SPAN_BLOCKS)),
    )
    const stored = await reader.readObject({ level: 1, position: 1 }, new Uint8Array(200_000))
    assert.equal(entries[1]?.storedBytes, stored?.storedBytes)
  })

  it('leaves out positions at which no chunk begins', async () => {
    const { reader } = await openVersion()
    const second = reader.chunks.firstBlock(1)
    assert.deepEqual(await planBootList([second + 1, 60, 2 ** 32 - 1], reader), [])
  })

  it('leaves out nodes the store has lost, and keeps their chunks', async () => {
    const { reader } = await openVersion()
    const lost = {
      ...reader,
      readObject: async () => {
        throw new Error('a bad sector')
      },
    }
    const entries = await planBootList([0], lost)
    assert.deepEqual(
      entries.map(({ level }) => level),
      [0],
    )
  })
})
