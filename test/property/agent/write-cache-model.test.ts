/** The write cache against a flat array of bytes, killed at any of its calls and opened again. */

import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import fc from 'fast-check'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { WriteCache } from '#agent/block/write-cache.ts'
import { closeWriteCacheFiles, openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { killAt } from '#test/support/killed-writes.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import {
  applyChange,
  BASE_FILL,
  type CacheChange,
  WRITTEN_FROM,
} from '#test/support/write-cache-changes.ts'
import { rangeOf, WriteCacheModel } from '#test/support/write-cache-model.ts'

const SECTORS = 64 * 8 + 3
const SIZE_BYTES = SECTORS * SECTOR_BYTES

const change: fc.Arbitrary<CacheChange> = fc
  .record({
    kind: fc.constantFrom('write', 'write', 'write', 'trim', 'zero'),
    first: fc.oneof(fc.nat(80), fc.nat(SECTORS - 1)),
    count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(8, 64)),
    fill: fc.integer({ min: WRITTEN_FROM, max: 255 }),
  })
  .map(({ kind, first, count, fill }) => ({
    kind,
    offsetBytes: first * SECTOR_BYTES,
    lengthBytes: Math.min(count, SECTORS - first) * SECTOR_BYTES,
    fill,
  }))

const step = fc.record({
  change,
  /** Absent when nothing is killed. */
  kill: fc.option(fc.record({ calls: fc.nat(5), sectors: fc.nat(16) }), { freq: 2 }),
})

class Harness {
  readonly model = new WriteCacheModel(SIZE_BYTES)
  readonly #folder: string
  #memory
  cache: WriteCache

  constructor(folder: string) {
    this.#folder = folder
    this.#memory = this.#open()
    this.cache = new WriteCache(this.#memory)
  }

  run({
    change,
    kill,
  }: {
    change: CacheChange
    kill: { calls: number; sectors: number } | null
  }): void {
    if (kill === null) {
      applyChange(this.cache, change)
      this.model.apply(change)
      return
    }
    const isKilled = killAt(kill.calls, kill.sectors, () => applyChange(this.cache, change))
    this.reopen()
    if (isKilled) this.model.applyPart(change, rangeOf(this.content(), change))
    else this.model.apply(change)
    this.check()
  }

  check(): void {
    assert.ok(this.content().equals(this.model.bytes), 'the cache holds what was acknowledged')
    assert.ok(this.cache.usedBytes <= Math.ceil(SIZE_BYTES / BLOCK_BYTES) * BLOCK_BYTES)
  }

  content(): Buffer<ArrayBuffer> {
    const content = Buffer.alloc(SIZE_BYTES, BASE_FILL)
    this.cache.overlay(0, content)
    return content
  }

  reopen(): void {
    this.close()
    // The file may be longer than any entry needs.
    appendFileSync(join(this.#folder, 'data'), Buffer.alloc(700, 0xee))
    this.#memory = this.#open()
    this.cache = new WriteCache(this.#memory)
  }

  close(): void {
    closeWriteCacheFiles(this.#memory)
  }

  #open() {
    return openWriteCacheFiles({
      folder: this.#folder,
      versionId: 'cafe0123',
      sizeBytes: SIZE_BYTES,
      limitBytes: 2 * SIZE_BYTES,
      durable: false,
    })
  }
}

it('a write cache killed at any call holds what was acknowledged, and whole sectors of the rest', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 40, size: 'max' }),
      async (steps) => {
        await using temporary = await createTemporaryFolder()
        const harness = new Harness(join(temporary.path, 'write-cache'))
        for (const each of steps) harness.run(each)
        harness.reopen()
        harness.check()
        harness.close()
      },
    ),
    { numRuns: 40 },
  )
})
