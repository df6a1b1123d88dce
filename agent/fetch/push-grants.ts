/**
 * What the server may push and has not pushed yet, in the order in which it was let to. It pushes in that
 * order and leaves out what it was asked for; so what was granted before something that came by push,
 * and has not come, never will. Each grant ends: it comes, pushed or asked for, is left out, or is gone
 * with the connection.
 */
import type { BootListEntry, ObjectHeader } from '#shared/wire/frame.ts'
import { objectKey } from './object-fetch.ts'
import type { PathLoad, Sent } from './path-load.ts'

/** How long to wait for a push when nothing is known of the path. */
const PATIENCE_MS_AT_FIRST = 50

interface Grant {
  readonly entry: BootListEntry
  readonly rawBytes: number
  readonly sent: Sent
}

export class PushGrants {
  readonly #load: PathLoad
  /** In their order. */
  readonly #grants = new Map<number, Grant>()
  #rawBytes = 0

  constructor(load: PathLoad) {
    this.#load = load
  }

  get isEmpty(): boolean {
    return this.#grants.size === 0
  }

  /** Of all, once decoded, as far as that is known. */
  get rawBytes(): number {
    return this.#rawBytes
  }

  has(level: number, position: number): boolean {
    return this.#grants.has(objectKey(level, position))
  }

  /** When an object that was granted is expected; undefined when it was not. */
  expectedAtMs(level: number, position: number, nowMs: number): number | undefined {
    const sent = this.#grants.get(objectKey(level, position))?.sent
    if (sent === undefined) return undefined
    const { usualMs } = this.#load.window
    const isKnown = sent.atMs !== undefined && usualMs > 0
    return isKnown ? sent.atMs + usualMs : nowMs + PATIENCE_MS_AT_FIRST
  }

  /** `atMs` is undefined where the server pushes by itself. */
  grant(entry: BootListEntry, rawBytes: number, atMs: number | undefined): void {
    const { level, position, storedBytes } = entry
    this.#grants.set(objectKey(level, position), {
      entry,
      rawBytes,
      sent: this.#load.send(storedBytes, atMs),
    })
    this.#rawBytes += rawBytes
  }

  /** An object came that nobody had asked for. Returns what is not coming any more. */
  pushed({ level, position, storedBytes }: ObjectHeader, nowMs: number): BootListEntry[] {
    const key = objectKey(level, position)
    const came = this.#grants.get(key)
    if (came === undefined) return []
    this.#load.arrived(came.sent, storedBytes, nowMs)
    const leftOut: BootListEntry[] = []
    for (const [before, grant] of this.#grants) {
      this.#end(before, grant)
      if (before === key) break
      leftOut.push(grant.entry)
    }
    return leftOut
  }

  /** An object came that was asked for, too: when that was nobody can tell. */
  answered({ level, position }: ObjectHeader): void {
    const key = objectKey(level, position)
    const grant = this.#grants.get(key)
    if (grant !== undefined) this.#end(key, grant)
  }

  /** Nothing of it is coming. Returns what that is. */
  clear(): BootListEntry[] {
    const grants = [...this.#grants]
    for (const [key, grant] of grants) this.#end(key, grant)
    return grants.map(([, { entry }]) => entry)
  }

  #end(key: number, { sent, rawBytes }: Grant): void {
    this.#grants.delete(key)
    this.#load.dropped(sent)
    this.#rawBytes -= rawBytes
  }
}
