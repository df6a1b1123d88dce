/** A write cache of its own in a temporary folder, opened as often as a test wants. */

import { join } from 'node:path'
import { WriteCache } from '#agent/block/write-cache.ts'
import {
  closeWriteCacheFiles,
  openWriteCacheFiles,
  type WriteCacheMemory,
  type WriteCacheOptions,
} from '#agent/block/write-cache-files.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

/** Ten blocks and one of three sectors. */
export const CACHE_SIZE_BYTES: number = 10 * BLOCK_BYTES + 3 * 512
export const CACHE_VERSION_ID = 'cafe0123'

export interface WriteCacheFixture extends AsyncDisposable {
  readonly folder: string
  readonly cache: WriteCache
  readonly memory: WriteCacheMemory
  /** Opens it again, as a new process after a kill does. */
  reopen(options?: Partial<WriteCacheOptions>): void
  /** All of the device, over a base of one byte. */
  content(base: number): Buffer
}

export async function createWriteCache(
  options: Partial<WriteCacheOptions> = {},
): Promise<WriteCacheFixture> {
  const temporary = await createTemporaryFolder()
  const folder = join(temporary.path, 'write-cache')
  const all: WriteCacheOptions = {
    folder,
    versionId: CACHE_VERSION_ID,
    sizeBytes: CACHE_SIZE_BYTES,
    limitBytes: 64 * BLOCK_BYTES,
    durable: false,
    ...options,
  }
  let memory = openWriteCacheFiles(all)
  let cache = new WriteCache(memory)
  return {
    folder,
    get cache() {
      return cache
    },
    get memory() {
      return memory
    },
    reopen(changed = {}) {
      closeWriteCacheFiles(memory)
      memory = openWriteCacheFiles({ ...all, ...changed })
      cache = new WriteCache(memory)
    },
    content: (base) => readContent(cache, all.sizeBytes, base),
    async [Symbol.asyncDispose]() {
      // Fails when a test closed them.
      closeWriteCacheFiles(memory)
      await temporary[Symbol.asyncDispose]()
    },
  }
}

export function readContent(cache: WriteCache, sizeBytes: number, base: number): Buffer {
  const content = Buffer.alloc(sizeBytes, base)
  cache.overlay(0, content)
  return content
}
