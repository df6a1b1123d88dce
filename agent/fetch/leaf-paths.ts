/**
 * Gets leaves of the manifest for who waits for them: asks for the nodes on the way that are missing, top
 * down in one go, and for the chunks that are waited for behind them. Of a leaf somebody waits for, the
 * topmost node that is missing is always wanted (object-fetches.ts); when it comes, one goes on from there.
 */

import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { nodeOver, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { type ObjectHeader, PRIORITY } from '#shared/wire/frame.ts'
import { LeafWait, type LeafWish } from './leaf-wait.ts'
import { createFetch, type FetchState } from './object-fetch.ts'
import { Speculation, type SpeculationParts } from './speculation.ts'
import type { UnknownNode } from './version-tree.ts'

const IS_COMING: ReadonlySet<FetchState> = new Set(['queued', 'asked', 'awaited'])

export class LeafPaths {
  readonly #parts: SpeculationParts
  readonly #speculation: Speculation
  /** By the number of the leaf. */
  readonly #waits = new Map<number, LeafWait>()

  constructor(parts: SpeculationParts) {
    this.#parts = parts
    this.#speculation = new Speculation(parts)
  }

  get size(): number {
    return this.#waits.size
  }

  /** Gets a leaf, and calls `onLeaf` when it is here, maybe during the call. */
  get(position: number, wish: LeafWish): void {
    const wait = this.#waitFor(position)
    wait.add(wish)
    this.#advance(wait)
  }

  /** Gets a leaf that will be of use. */
  prefetch(position: number): void {
    const wait = this.#waitFor(position)
    if (wait.isPrefetched) return
    wait.isPrefetched = true
    this.#advance(wait)
  }

  /** A node came; or was said to be zero, with all below it. */
  nodeIsHere(level: number, position: number): void {
    for (const wait of this.#waits.values()) {
      if (nodeOver(wait.position * SPAN_BLOCKS, level) === position) this.#advance(wait)
    }
  }

  /** A chunk came that nothing proves. */
  chunkBeforeLeaf(header: ObjectHeader): void {
    this.#speculation.forget(header)
  }

  close(error: Error): void {
    for (const wait of this.#waits.values()) {
      for (const wish of wait.wishes) wish.onClosed(error)
    }
    this.#waits.clear()
  }

  #waitFor(position: number): LeafWait {
    const wait = this.#waits.get(position) ?? new LeafWait(position)
    this.#waits.set(position, wait)
    return wait
  }

  /** Does what can be done now to get a leaf, or, when it is here, tells who waited for it. */
  #advance(wait: LeafWait): void {
    const { tree, fetches } = this.#parts
    const place = tree.find(wait.position * SPAN_BLOCKS)
    if (place.kind !== 'unknown') return this.#isHere(wait)
    const top = fetches.get(place.level, place.position)
    // What is below a node is seen when that is here, but need not wait for a round trip of it.
    if (top === undefined || IS_COMING.has(top.state)) this.#fetchPath(wait, place)
    if (wait.want === PRIORITY.demand) this.#speculate(wait)
  }

  #isHere(wait: LeafWait): void {
    this.#waits.delete(wait.position)
    this.#speculation.resolve(wait.position)
    for (const wish of wait.wishes) wish.onLeaf()
  }

  /** Asks for the topmost node that is missing and, unless the local disk has it, for those below. */
  #fetchPath({ position, want }: LeafWait, { level: top }: UnknownNode): void {
    const { fetches } = this.#parts
    for (let level = top; level >= LEAF_LEVEL; level -= 1) {
      const at = nodeOver(position * SPAN_BLOCKS, level)
      const present = fetches.get(level, at)
      if (present !== undefined) {
        fetches.raise(present, want)
        continue
      }
      const fetch = createFetch({ level, position: at }, want)
      fetches.begin(fetch)
      if (fetch.state === 'local') return
    }
  }

  /** When the leaf is asked for as it should be: before its chunks. */
  #speculate({ position, wishes }: LeafWait): void {
    const leaf = this.#parts.fetches.get(LEAF_LEVEL, position)
    const askedAs = leaf?.state === 'asked' ? leaf.askedAs : leaf?.want
    const isBefore = leaf?.state === 'asked' || leaf?.state === 'queued'
    if (!isBefore || askedAs !== PRIORITY.demand) return
    for (const { block } of wishes) if (block !== undefined) this.#speculation.begin(block)
  }
}
