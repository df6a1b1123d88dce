/** Images for tests that need many different chunks: every block has its own random content. */
import { createHash } from 'node:crypto'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

/** Blocks that stay zero: from the first to before the last. */
export interface ZeroRun {
  readonly begin: number
  readonly end: number
}

/** The same seed gives the same image. */
export function blockImage(
  blocks: number,
  seed: string,
  zeros: readonly ZeroRun[] = [],
): Uint8Array {
  const image = new Uint8Array(blocks * BLOCK_BYTES)
  for (let block = 0; block < blocks; block += 1) {
    if (zeros.some(({ begin, end }) => begin <= block && block < end)) continue
    image.set(blockOf(`${seed}/${block}`), block * BLOCK_BYTES)
  }
  return image
}

export function blockOf(seed: string): Uint8Array {
  return createHash('shake256', { outputLength: BLOCK_BYTES }).update(seed).digest()
}
