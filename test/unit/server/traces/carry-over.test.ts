import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CarryOver, type ComparedVersion } from '#server/traces/carry-over.ts'
import { blockImage, blockOf } from '#test/support/block-image.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'

const BLOCK = 4096

async function compared(image: Uint8Array): Promise<ComparedVersion> {
  const store = new MemoryChunkStore()
  const reader = await store.openVersion(store.add(image).versionId)
  return { chunks: reader.chunks, hashes: await reader.readHashes() }
}

/** First blocks of the chunks that stand for all chunks of the old image, in order. */
async function carry(oldImage: Uint8Array, nextImage: Uint8Array) {
  const [old, next] = [await compared(oldImage), await compared(nextImage)]
  const all = new Set(Array.from({ length: old.chunks.count }, (_, index) => index))
  const carryOver = await CarryOver.create(old, next, all)
  const targets = [...all].map((index) => {
    return carryOver.targets(index).map((target) => next.chunks.firstBlock(target))
  })
  const first = [...all].map((index) => old.chunks.firstBlock(index))
  return { old, next, first, targets }
}

/** An image put together of parts. */
function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

describe('CarryOver without a look into files', () => {
  it('finds every chunk of an image that is the same', async () => {
    const image = blockImage(300, 'same')
    const { first, targets } = await carry(image, image)
    assert.deepEqual(
      targets,
      first.map((block) => [block]),
    )
  })

  it('finds chunks that moved', async () => {
    const image = blockImage(300, 'moved')
    const shift = joined(blockImage(64, 'new'), image)
    const { first, targets, next } = await carry(image, shift)
    const found = targets.filter((blocks, at) => blocks.includes((first[at] ?? 0) + 64))
    assert.ok(found.length > targets.length * 0.9, `${found.length} of ${targets.length}`)
    assert.ok(next.chunks.count > 0)
  })

  it('takes of the same content that is there twice the one that is nearer', async () => {
    const part = blockImage(40, 'twice')
    const apart = joined(part, new Uint8Array(500 * BLOCK), part)
    const { first, targets } = await carry(apart, apart)
    assert.deepEqual(
      targets,
      first.map((block) => [block]),
    )
  })

  it('finds by place what has changed among chunks that moved', async () => {
    const head = blockImage(100, 'head')
    const tail = blockImage(100, 'tail')
    const zeros = new Uint8Array(4 * BLOCK)
    const old = joined(head, zeros, blockOf('a config file'), zeros, tail)
    const next = joined(blockImage(32, 'new'), head, zeros, blockOf('edited'), zeros, tail)
    const { first, targets } = await carry(old, next)
    assert.deepEqual(targets[first.indexOf(104)], [136])
  })

  it('looks at the same place when nothing around is the same', async () => {
    const { targets, next } = await carry(blockImage(20, 'before'), blockImage(20, 'after'))
    assert.ok(targets.every((blocks) => blocks.length > 0))
    assert.deepEqual(targets[0]?.[0], next.chunks.firstBlock(0))
  })

  it('finds nothing for chunks beyond the end of a smaller version', async () => {
    const { targets } = await carry(blockImage(400, 'large'), blockImage(40, 'small'))
    assert.deepEqual(targets.at(-1), [])
  })
})
