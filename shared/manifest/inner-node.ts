/**
 * An inner node of the hash tree: the hashes of its children.
 *
 *     level u8 (2 to LEVEL_MAX), reserved u8 = 0, number of children u16 (1 to FAN_OUT)
 *     per child 32 bytes: the hash of its node; all zero where everything below is zero
 */
import { BootwireError } from '#shared/errors.ts'
import { HASH_BYTES, isZeroHash } from './content-hash.ts'

const HEADER_BYTES = 4

export class InnerNode {
  readonly #hashes: Uint8Array

  private constructor(hashes: Uint8Array) {
    this.#hashes = hashes
  }

  /**
   * Keeps a view of `bytes`. Level and number of children are what the vDisk's size says (tree-shape),
   * so that no tree is deeper or wider than it may be.
   * @throws {BootwireError} MANIFEST_INVALID
   */
  static decode(bytes: Uint8Array, level: number, children: number): InnerNode {
    const expectedBytes = HEADER_BYTES + children * HASH_BYTES
    if (bytes.length !== expectedBytes) {
      throw invalid(`it has ${bytes.length} bytes, expected ${expectedBytes}`)
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (view.getUint16(0) !== level << 8 || view.getUint16(2) !== children) {
      throw invalid(`it is not of level ${level} with ${children} children`)
    }
    return new InnerNode(bytes.subarray(HEADER_BYTES))
  }

  /** Hash of a child; undefined when everything below it is zero. */
  child(index: number): Uint8Array | undefined {
    const hash = this.#hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
    return isZeroHash(hash) ? undefined : hash
  }
}

/** `hashes` has ZERO_HASH for children that are all zero. */
export function encodeInner(level: number, hashes: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + hashes.length * HASH_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, level << 8)
  view.setUint16(2, hashes.length)
  for (const [index, hash] of hashes.entries()) bytes.set(hash, HEADER_BYTES + index * HASH_BYTES)
  return bytes
}

function invalid(why: string): BootwireError {
  return new BootwireError('MANIFEST_INVALID', `Cannot use a node of the manifest: ${why}`)
}
