/** A captured disk against a plain buffer: segments in any order, again, with the file closed or its log torn between. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { appendFile, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import fc from 'fast-check'
import { CapturedDisk } from '#server/capture/captured-disk.ts'
import {
  HASH_BYTES,
  SEGMENT_BYTES,
  segmentBytes,
  segmentCount,
} from '#shared/capture/capture-protocol.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const SIZE = 2 * SEGMENT_BYTES + 12_345
const COUNT = segmentCount(SIZE)

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      index: fc.nat(COUNT - 1),
      /** What is in each quarter; 0 is nothing. */
      fill: fc.array(fc.nat(2), { minLength: 4, maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('tear' as const),
      text: fc.constantFrom('0', `1 ${'a'.repeat(63)}`, `2 ${'b'.repeat(64)}`, 'x\n', '9 z\n'),
    }),
  },
)

it('CapturedDisk has what was written last, and knows what is missing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      await using temporary = await createTemporaryFolder()
      const model = Buffer.alloc(SIZE)
      const hashes = Buffer.alloc(COUNT * HASH_BYTES)
      const written = new Set<number>()
      let disk = await CapturedDisk.open(temporary.path, SIZE)
      try {
        for (const it of steps) {
          if (it.kind === 'write') {
            const bytes = Buffer.alloc(segmentBytes(SIZE, it.index))
            const quarter = Math.ceil(bytes.length / 4)
            for (const [at, value] of it.fill.entries()) {
              bytes.fill(value, at * quarter, Math.min(bytes.length, (at + 1) * quarter))
            }
            const hash = createHash('sha256').update(bytes).digest('hex')
            await disk.write(it.index, bytes, hash)
            bytes.copy(model, it.index * SEGMENT_BYTES)
            hashes.write(hash, it.index * HASH_BYTES, 'hex')
            written.add(it.index)
          } else {
            await disk[Symbol.asyncDispose]()
            if (it.kind === 'tear') await appendFile(join(temporary.path, 'segments'), it.text)
            disk = await CapturedDisk.open(temporary.path, SIZE)
          }
          assert.deepEqual(Buffer.from(disk.hashes), hashes)
          assert.equal(disk.isComplete, written.size === COUNT)
        }
        assert.ok((await readFile(disk.path)).equals(model))
        const { signal } = new AbortController()
        if (disk.isComplete) await disk.verify(() => undefined, signal)
      } finally {
        await disk[Symbol.asyncDispose]()
      }
    }),
    { numRuns: 40 },
  )
})

it('CapturedDisk leaves nothing of what was written and never noted', async () => {
  await using temporary = await createTemporaryFolder()
  const bytes = Buffer.alloc(SEGMENT_BYTES)
  const hash = createHash('sha256').update(bytes).digest('hex')
  await using disk = await CapturedDisk.open(temporary.path, SEGMENT_BYTES)
  await using image = await open(disk.path, 'r+')
  await image.write(Buffer.alloc(1000, 9), 0, 1000, 70_000)
  await disk.write(0, bytes, hash)
  await disk.verify(() => undefined, new AbortController().signal)
  assert.ok((await readFile(disk.path)).equals(bytes))
})
