/** placeholder */
import type { ChunkTable } from '#server/store/chunk-store.ts'
import type { RootFiles } from './compared-version.ts'

export async function guessBoot(
  _root: RootFiles,
  _chunks: ChunkTable,
  _release: string | undefined,
): Promise<number[]> {
  return []
}
