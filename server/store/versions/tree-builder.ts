/** Builds a version's hash tree from its leaves, in order. Nodes that are all zero do not exist. */
import { contentHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner } from '#shared/manifest/inner-node.ts'
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { FAN_OUT } from '#shared/manifest/tree-shape.ts'

export interface TreeNode {
  readonly level: number
  readonly position: number
  readonly bytes: Uint8Array
}

export class TreeBuilder {
  /** Of the leaves so far; 32 bytes for 16 MiB. */
  readonly #leafHashes: Uint8Array[] = []

  /** `hash` is ZERO_HASH for a span of zeros. */
  addLeaf(hash: Uint8Array): void {
    this.#leafHashes.push(hash)
  }

  addZeroLeaves(count: number): void {
    for (let left = count; left > 0; left -= 1) this.#leafHashes.push(ZERO_HASH)
  }

  get leafCount(): number {
    return this.#leafHashes.length
  }

  /** Returns the inner nodes, level by level, and the hash of the root node. */
  finish(): { readonly nodes: TreeNode[]; readonly rootHash: Uint8Array } {
    const nodes: TreeNode[] = []
    let hashes = this.#leafHashes
    for (let level = LEAF_LEVEL + 1; hashes.length > 1; level += 1) {
      const above: Uint8Array[] = []
      for (let at = 0; at < hashes.length; at += FAN_OUT) {
        const children = hashes.slice(at, at + FAN_OUT)
        if (children.every((hash) => hash === ZERO_HASH)) {
          above.push(ZERO_HASH)
          continue
        }
        const bytes = encodeInner(level, children)
        nodes.push({ level, position: above.length, bytes })
        above.push(contentHash(bytes))
      }
      hashes = above
    }
    return { nodes, rootHash: hashes[0] ?? ZERO_HASH }
  }
}
