/** A write cache on a tmpfs that has less room than the cache may take: it must survive that. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { rm, statfs } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { WriteCache } from '#agent/block/write-cache.ts'
import { closeWriteCacheFiles, openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { NbdError } from '#agent/node-nbd/block-device.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import {
  applyChange,
  BASE_FILL,
  type CacheChange,
  changesOf,
} from '#test/support/write-cache-changes.ts'
import { WriteCacheModel } from '#test/support/write-cache-model.ts'

/** Its table has pages enough that some are missing when the tmpfs is full. */
const SIZE_BYTES = 16 * MiB + 512
const CHANGES = 1500

async function mountTmpfs(sizeBytes: number) {
  const temporary = await createTemporaryFolder()
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', temporary.path])
  return {
    path: temporary.path,
    async [Symbol.asyncDispose]() {
      execFileSync('umount', [temporary.path])
      await temporary[Symbol.asyncDispose]()
    },
  }
}

/** To be closed before the tmpfs is unmounted, also when the test fails. */
function openCache(folder: string) {
  const options = { versionId: 'cafe0123', sizeBytes: SIZE_BYTES, limitBytes: SIZE_BYTES }
  const memory = openWriteCacheFiles({ folder, ...options, durable: false })
  const dispose = () => closeWriteCacheFiles(memory)
  return { cache: new WriteCache(memory), [Symbol.dispose]: dispose }
}

function contentOf(cache: WriteCache): Buffer {
  const content = Buffer.alloc(SIZE_BYTES, BASE_FILL)
  cache.overlay(0, content)
  return content
}

/** Returns whether there was room. */
function tryChange(cache: WriteCache, change: CacheChange): boolean {
  try {
    applyChange(cache, change)
    return true
  } catch (error) {
    assert.ok(error instanceof NbdError && error.errno === constants.errno.ENOSPC, String(error))
    return false
  }
}

describe('write cache on a full tmpfs', () => {
  it('keeps what was acknowledged, and takes no slot that is not used', async () => {
    await using tmpfs = await mountTmpfs(2 * MiB)
    const folder = join(tmpfs.path, 'write-cache')
    using opened = openCache(folder)
    const { cache } = opened
    const model = new WriteCacheModel(SIZE_BYTES)
    let refused = 0
    const changes = changesOf(1, SIZE_BYTES)
    for (let count = 0; count < CHANGES; count += 1) {
      const change = changes.next().value
      if (tryChange(cache, change)) model.apply(change)
      else {
        refused += 1
        const actual = Buffer.alloc(change.lengthBytes, BASE_FILL)
        cache.overlay(change.offsetBytes, actual)
        model.applyPart(change, actual)
      }
    }
    assert.ok(refused > 0)
    using reopened = openCache(folder)
    const after = reopened.cache
    assert.ok(contentOf(after).equals(model.bytes))
    assert.equal(after.usedBytes, cache.usedBytes, 'slots that nothing names')
  })

  it('is written again once there is room', async () => {
    await using tmpfs = await mountTmpfs(MiB)
    using opened = openCache(join(tmpfs.path, 'write-cache'))
    const { cache } = opened
    const others = join(tmpfs.path, 'others')
    const { bavail } = await statfs(tmpfs.path)
    writeFileSync(others, Buffer.alloc((bavail - 1) * BLOCK_BYTES, 1))
    const write = { kind: 'write', offsetBytes: 0, lengthBytes: 2 * BLOCK_BYTES, fill: 99 } as const
    // Room for one page, which a write that fails must not keep.
    for (let count = 0; count < 3; count += 1) assert.equal(tryChange(cache, write), false)
    assert.equal((await statfs(tmpfs.path)).bavail, 1)
    await rm(others)
    assert.equal(tryChange(cache, write), true)
    assert.equal(cache.usedBytes, 2 * BLOCK_BYTES)
  })

  it('is not opened without room for its header, and the message says so', async () => {
    await using tmpfs = await mountTmpfs(MiB)
    const { bavail } = await statfs(tmpfs.path)
    writeFileSync(join(tmpfs.path, 'others'), Buffer.alloc(bavail * BLOCK_BYTES, 1))
    const folder = join(tmpfs.path, 'write-cache')
    assert.throws(() => openCache(folder), { code: 'WRITE_CACHE_UNUSABLE', message: /ENOSPC/ })
    await rm(join(tmpfs.path, 'others'))
    openCache(folder)[Symbol.dispose]()
  })
})
