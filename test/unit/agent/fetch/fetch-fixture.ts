/** A fetcher over a server in memory, and reads that wait. */
import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import type { DiskCache } from '#agent/disk-cache/disk-cache.ts'
import type { ObjectFault } from '#agent/fetch/fault-log.ts'
import { Fetcher } from '#agent/fetch/fetcher.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { BLOCK_BYTES, bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import {
  FakeObjectTransport,
  type FakeTransportOptions,
} from '#test/support/fake-object-transport.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'

export interface FetchFixtureOptions extends FakeTransportOptions {
  readonly version?: MemoryVersion
  readonly tierBytes?: number
  readonly readahead?: boolean
  readonly isBoot?: boolean
  readonly diskCache?: DiskCache
  readonly leafMemoryBytesMax?: number
}

/** Two spans and a bit: data, zeros between, a whole span of zeros, and an odd end. */
export function imageOfSpans(): Buffer {
  const image = Buffer.alloc(50 * MiB + 700)
  for (const [at, length] of [
    [0, 2 * MiB],
    [3 * MiB, MiB],
    [15 * MiB, 2 * MiB],
    [49 * MiB, MiB + 700],
  ] as const) {
    fillWithText(image, at, length)
  }
  return image
}

/** Blocks that differ and pack to a third. */
export function fillWithText(image: Buffer, at: number, length: number): void {
  image.fill('some text of no meaning. ', at, at + length)
  const noise = Buffer.alloc(1200)
  for (let block = at; block < at + length; block += BLOCK_BYTES) {
    randomFillSync(noise)
    noise.copy(image, block, 0, Math.min(noise.length, at + length - block))
  }
}

let versionOfSpans: MemoryVersion | undefined

export function createFetcher(options: FetchFixtureOptions = {}) {
  versionOfSpans ??= new MemoryVersion(imageOfSpans())
  const { version = versionOfSpans, tierBytes = 16 * RAM_TIER_BYTES_MIN, diskCache } = options
  const transport = new FakeObjectTransport(version, options)
  const tier = new RamTier(version.sizeBytes, tierBytes)
  const faults: ObjectFault[] = []
  const fetcher = new Fetcher({
    root: version.root,
    tier,
    transport,
    diskCache,
    readahead: options.readahead ?? false,
    isBoot: options.isBoot ?? false,
    leafMemoryBytesMax: options.leafMemoryBytesMax,
    onFault: (fault) => faults.push(fault),
  })
  /** Ranges asked for by `demand` that are here whole. */
  const done: string[] = []
  const errors: Error[] = []
  const demand = (first: number, end = first + 1) => {
    let left = end - first
    fetcher.demand(first, end, {
      onBlocks: (firstBlock, blocks) => {
        assertBlocks(tier, version, firstBlock, blocks)
        left -= blocks
        assert.ok(left >= 0, 'no block is told twice')
        if (left === 0) done.push(`${first}-${end}`)
      },
      onClosed: (error) => errors.push(error),
    })
  }
  /** Pending objects as `level/position`. */
  const pending = () => transport.pending.map(({ level, position }) => `${level}/${position}`)
  return { version, transport, tier, fetcher, faults, done, errors, demand, pending }
}

/** What the tier has of these blocks is what the version has. */
export function assertBlocks(
  tier: RamTier,
  version: MemoryVersion,
  firstBlock: number,
  blocks: number,
): void {
  const target = Buffer.alloc(bytesOfBlocks(version.sizeBytes, firstBlock, blocks))
  const offset = firstBlock * BLOCK_BYTES
  assert.ok(tier.copyTo(target, offset, target.length), `blocks ${firstBlock}+${blocks} are here`)
  const expected = version.image.subarray(offset, offset + target.length)
  assert.ok(target.equals(expected), `blocks ${firstBlock}+${blocks} are right`)
}
