/**
 * Reads objects from the local disk: what is wanted in one turn goes to the disk in one piece, so
 * that what lies together is read together.
 */
import type { CachedObject, DiskCache } from '../disk-cache/disk-cache.ts'
import type { ObjectFetch } from './object-fetch.ts'

interface Reading {
  readonly fetch: ObjectFetch
  readonly hash: Uint8Array
}

/** `object` is undefined where the disk has not got it after all; valid during the call. */
export type LocalListener = (
  fetch: ObjectFetch,
  hash: Uint8Array,
  object: CachedObject | undefined,
) => void

export class LocalReader {
  readonly #cache: DiskCache
  readonly #onObject: LocalListener
  #wanted: Reading[] = []
  #isScheduled = false

  constructor(cache: DiskCache, onObject: LocalListener) {
    this.#cache = cache
    this.#onObject = onObject
  }

  read(fetch: ObjectFetch, hash: Uint8Array): void {
    this.#wanted.push({ fetch, hash })
    if (this.#isScheduled) return
    this.#isScheduled = true
    queueMicrotask(() => this.#start())
  }

  #start(): void {
    this.#isScheduled = false
    const readings = this.#wanted
    this.#wanted = []
    const hashes = readings.map(({ hash }) => hash)
    void this.#cache.read(hashes, (index, object) => {
      const reading = readings[index]
      if (reading !== undefined) this.#onObject(reading.fetch, reading.hash, object)
    })
  }
}
