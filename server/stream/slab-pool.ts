/**
 * Memory that objects are read into and sent from, used again and again: an allocation per object
 * makes the garbage collector stop the server for milliseconds many times a second.
 */
import { invariant } from '#shared/invariant.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { KiB } from '#shared/units.ts'
import { MESSAGE_HEADER_BYTES_MAX } from './object-message.ts'

/**
 * Holds the largest object. What Node's TLS encrypts in one go leaves by one system call up to this
 * (ten buffers of 16 KiB); larger writes cost no less per byte.
 */
export const SLAB_BYTES: number = 160 * KiB
invariant(SLAB_BYTES >= LEAF_BYTES_MAX + MESSAGE_HEADER_BYTES_MAX, 'a slab holds any object')

/** Idle slabs kept, 10 MiB: what some ten busy sessions use at once. */
const IDLE_SLABS_MAX = 64

/** Goes back to its pool when the last of its users is done with it. */
export class Slab {
  readonly bytes: Uint8Array = new Uint8Array(SLAB_BYTES)
  readonly #pool: SlabPool
  #users = 0

  constructor(pool: SlabPool) {
    this.#pool = pool
  }

  /** True while somebody reads or writes it. */
  get isUsed(): boolean {
    return this.#users > 0
  }

  retain(): void {
    this.#users += 1
  }

  release(): void {
    invariant(this.#users > 0, 'a slab is released once per use')
    this.#users -= 1
    if (this.#users === 0) this.#pool.give(this)
  }
}

export class SlabPool {
  readonly #idle: Slab[] = []

  /** Returns a slab with one user; its content is arbitrary. */
  take(): Slab {
    const slab = this.#idle.pop() ?? new Slab(this)
    slab.retain()
    return slab
  }

  /** For slabs, which know when nobody uses them any more. */
  give(slab: Slab): void {
    if (this.#idle.length < IDLE_SLABS_MAX) this.#idle.push(slab)
  }
}
