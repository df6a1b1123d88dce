/**
 * What became of each block of a vDisk, a byte each, as the file `table` of FORMAT.md holds it. Pages of it
 * are read when they are first needed and kept: a client writes to few places at a time.
 */
import type { FileHandle } from 'node:fs/promises'
import { KiB } from '#shared/units.ts'

export const STATE_BASE = 0
export const STATE_WRITTEN = 1
export const STATE_ZERO = 2
export type BlockState = typeof STATE_BASE | typeof STATE_WRITTEN | typeof STATE_ZERO

/** Blocks behind one another that became the same. */
export interface StateRun {
  readonly firstBlock: number
  readonly blocks: number
  readonly state: typeof STATE_WRITTEN | typeof STATE_ZERO
}

const PAGE_BYTES: number = 4 * KiB
/** Read at once when all of it is looked at. */
const SCAN_PAGES = 256

export class BlockStates {
  readonly #file: FileHandle
  readonly #pages = new Map<number, Uint8Array>()
  readonly #dirty = new Set<number>()
  #writtenBlocks = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async open(file: FileHandle): Promise<BlockStates> {
    const states = new BlockStates(file)
    for await (const { blocks, state } of states.runs()) {
      if (state === STATE_WRITTEN) states.#writtenBlocks += blocks
    }
    return states
  }

  get writtenBlocks(): number {
    return this.#writtenBlocks
  }

  async set(firstBlock: number, blocks: number, state: BlockState): Promise<void> {
    for (let at = firstBlock; at < firstBlock + blocks; ) {
      const number = Math.floor(at / PAGE_BYTES)
      const page = await this.#page(number)
      const end = Math.min(firstBlock + blocks, (number + 1) * PAGE_BYTES)
      const part = page.subarray(at - number * PAGE_BYTES, end - number * PAGE_BYTES)
      this.#writtenBlocks -= countOf(part, STATE_WRITTEN)
      part.fill(state)
      if (state === STATE_WRITTEN) this.#writtenBlocks += part.length
      this.#dirty.add(number)
      at = end
    }
  }

  /** Whether all of them are of that state. */
  async are(firstBlock: number, blocks: number, state: BlockState): Promise<boolean> {
    for (let at = firstBlock; at < firstBlock + blocks; ) {
      const number = Math.floor(at / PAGE_BYTES)
      const page = await this.#page(number)
      const end = Math.min(firstBlock + blocks, (number + 1) * PAGE_BYTES)
      const part = page.subarray(at - number * PAGE_BYTES, end - number * PAGE_BYTES)
      if (countOf(part, state) !== part.length) return false
      at = end
    }
    return true
  }

  /** Writes what was changed to the file; it is not synced. */
  async write(): Promise<void> {
    const dirty = [...this.#dirty].sort((a, b) => a - b)
    this.#dirty.clear()
    try {
      for (const number of dirty) {
        const page = this.#pages.get(number)
        if (page !== undefined) await this.#file.write(page, 0, page.length, number * PAGE_BYTES)
      }
    } catch (error) {
      for (const number of dirty) this.#dirty.add(number)
      throw error
    }
  }

  /** Everything that is not as in the base, in order. What is in memory counts. */
  async *runs(): AsyncGenerator<StateRun> {
    const { size } = await this.#file.stat()
    const last = Math.max(-1, ...this.#pages.keys())
    const pages = Math.max(Math.ceil(size / PAGE_BYTES), last + 1)
    let run: { firstBlock: number; blocks: number; state: StateRun['state'] } | undefined
    for (let first = 0; first < pages; first += SCAN_PAGES) {
      const bytes = await this.#scan(first, Math.min(SCAN_PAGES, pages - first))
      for (let at = 0; at < bytes.length; at += 1) {
        const state = bytes[at]
        const block = first * PAGE_BYTES + at
        if (run !== undefined) {
          if (run.state === state) {
            run.blocks += 1
            continue
          }
          yield run
        }
        run =
          state === STATE_WRITTEN || state === STATE_ZERO
            ? { firstBlock: block, blocks: 1, state }
            : undefined
      }
    }
    if (run !== undefined) yield run
  }

  async #scan(first: number, count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count * PAGE_BYTES)
    await this.#file.read(bytes, 0, bytes.length, first * PAGE_BYTES)
    for (let number = first; number < first + count; number += 1) {
      const page = this.#pages.get(number)
      if (page !== undefined) bytes.set(page, (number - first) * PAGE_BYTES)
    }
    return bytes
  }

  async #page(number: number): Promise<Uint8Array> {
    const present = this.#pages.get(number)
    if (present !== undefined) return present
    const page = new Uint8Array(PAGE_BYTES)
    await this.#file.read(page, 0, PAGE_BYTES, number * PAGE_BYTES)
    this.#pages.set(number, page)
    return page
  }
}

function countOf(bytes: Uint8Array, value: number): number {
  let count = 0
  for (const byte of bytes) if (byte === value) count += 1
  return count
}
