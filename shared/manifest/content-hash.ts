/** The name of everything in a version: SHA-256 (FIPS 180-4) of a chunk once decoded, or of a node. */
import { hash } from 'node:crypto'

export const HASH_BYTES = 32

export function contentHash(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer')
}

/** In place of a node's hash: everything below it is zero, and there is no node. */
export const ZERO_HASH: Uint8Array = new Uint8Array(HASH_BYTES)

export function isZeroHash(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZERO_HASH) === 0
}
