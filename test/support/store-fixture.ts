/** A content store in a folder of its own. */
import { join } from 'node:path'
import { ContentStore } from '#server/store/content-store.ts'
import type { StoreDisk } from '#server/store/store-disk.ts'
import { signForTest } from './memory-chunk-store.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export function openStore(folder: string, disk?: StoreDisk): Promise<ContentStore> {
  return ContentStore.open(folder, { sign: signForTest, ...(disk !== undefined && { disk }) })
}

export async function openTemporaryStore(disk?: StoreDisk) {
  const temporary = await createTemporaryFolder()
  const folder = join(temporary.path, 'store')
  const store = await openStore(folder, disk)
  const dispose = async () => {
    await store.close()
    await temporary[Symbol.asyncDispose]()
  }
  return { folder, store, [Symbol.asyncDispose]: dispose }
}
