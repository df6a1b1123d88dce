/** A vDisk far larger than what is read of it. */
import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { it } from 'node:test'
import { Fetcher } from '#agent/fetch/fetcher.ts'
import type { ObjectListener, ObjectTransport } from '#agent/fetch/object-transport.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { contentHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner } from '#shared/manifest/inner-node.ts'
import { encodeLeaf } from '#shared/manifest/leaf-node.ts'
import {
  BLOCK_BYTES,
  childCount,
  FAN_OUT,
  SPAN_BLOCKS,
  treeLevels,
} from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY } from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, type ObjectRequest } from '#shared/wire/frame.ts'

const SIZE_BYTES = 100e9
const CHUNK_BLOCKS = 8
/** The one span that is not zero; its leaf is as long as one of mean chunks can be. */
const SPAN = 4000

const chunk = randomFillSync(Buffer.alloc(CHUNK_BLOCKS * BLOCK_BYTES))
const extents = Array.from({ length: SPAN_BLOCKS / CHUNK_BLOCKS }, () => {
  return { blocks: CHUNK_BLOCKS, hash: contentHash(chunk) }
})

/** Nodes on the way to the span, by level. */
function createNodes(): Map<number, Uint8Array> {
  const nodes = new Map([[1, encodeLeaf(extents)]])
  for (let level = 2; level <= treeLevels(SIZE_BYTES); level += 1) {
    const below = nodes.get(level - 1) ?? assert.fail()
    const position = Math.floor(SPAN / FAN_OUT ** (level - 1))
    const at = Math.floor(SPAN / FAN_OUT ** (level - 2)) % FAN_OUT
    const hashes = Array.from({ length: childCount(SIZE_BYTES, level, position) }, () => ZERO_HASH)
    hashes[at] = contentHash(below)
    nodes.set(level, encodeInner(level, hashes))
  }
  return nodes
}

it('the first block of a vDisk of 100 GB takes three nodes and a chunk, far below 1 MB', () => {
  const nodes = createNodes()
  let movedBytes = 0
  let listener: ObjectListener | undefined
  const transport: ObjectTransport = {
    listen(it) {
      listener = it
      it.onOpen()
    },
    request({ objects }: ObjectRequest) {
      for (const { level, position } of objects) {
        const payload = level === CHUNK_LEVEL ? chunk : (nodes.get(level) ?? assert.fail())
        const at = level === CHUNK_LEVEL ? position - (position % CHUNK_BLOCKS) : position
        const lengths = { rawBytes: payload.length, storedBytes: payload.length }
        movedBytes += payload.length
        queueMicrotask(() => {
          const header = { level, position: at, encoding: CHUNK_ENCODING.raw, ...lengths }
          listener?.onObject(header, payload)
        })
      }
    },
    push: () => undefined,
    sendTrace: () => undefined,
  }
  const rootHash = contentHash(nodes.get(treeLevels(SIZE_BYTES)) ?? assert.fail())
  const fetcher = new Fetcher({
    root: { sizeBytes: SIZE_BYTES, cut: CUT_TODAY, rootHash },
    tier: new RamTier(SIZE_BYTES, RAM_TIER_BYTES_MIN),
    transport,
    readahead: false,
    isBoot: false,
    onFault: ({ error }) => assert.fail(error),
  })
  const block = SPAN * SPAN_BLOCKS + 77
  const read = Promise.withResolvers<void>()
  fetcher.demand(block, block + 1, { onBlocks: () => read.resolve(), onClosed: read.reject })
  return read.promise.then(() => {
    assert.equal(treeLevels(SIZE_BYTES), 3)
    assert.ok(movedBytes < 100_000, `${movedBytes} bytes`)
    fetcher.close()
  })
})
