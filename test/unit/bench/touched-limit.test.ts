import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { KiB } from '#shared/units.ts'
import type { BootAccess } from '#test/bench/record-boot.ts'
import { touchedBytes } from '#test/bench/touched-limit.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

function access(op: BootAccess['op'], offsetKiB: number, sizeKiB: number): BootAccess {
  return { atMs: 0, doneMs: 1, op, offsetBytes: offsetKiB * KiB, sizeBytes: sizeKiB * KiB }
}

describe('touchedBytes()', () => {
  it('counts each chunk that is read once, as little as it can be stored in', async () => {
    await using folder = await createTemporaryFolder()
    const image = join(folder.path, 'image')
    // Nothing, what nothing shortens, what all but vanishes, and half a chunk.
    const chunk = 64 * KiB
    const parts = [Buffer.alloc(chunk), randomBytes(chunk), Buffer.alloc(chunk, 'x')]
    await writeFile(image, Buffer.concat([...parts, randomBytes(chunk / 2)]))
    const random = [access('read', 100, 4), access('read', 64, 64)]
    assert.equal(touchedBytes(image, random), chunk)
    assert.equal(touchedBytes(image, [...random, access('read', 0, 8)]), chunk)
    assert.equal(touchedBytes(image, [...random, access('write', 128, 8)]), chunk)
    assert.equal(touchedBytes(image, [access('read', 200, 4)]), chunk / 2)
    const vanishing = touchedBytes(image, [access('read', 120, 16)]) - chunk
    assert.ok(vanishing > 0 && vanishing < 100, String(vanishing))
  })
})
