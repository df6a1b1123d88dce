/**
 * The timeline of every boot: the flight recorder of the fleet.
 *
 * Running boots are held in memory and saved together, at most one batch per `SAVE_DELAY_MS`, so
 * that machines that boot in a loop cannot keep the disk busy; which version a boot runs on, and its
 * end, are saved at once. What a killed server loses is the last `SAVE_DELAY_MS` of the rest.
 */
import { randomBytes } from 'node:crypto'
import type { Log } from '#server/log.ts'
import { BOOT_KEYS, type BootRecord } from '#server/state/records.ts'
import type { StateChange, StateEntry, StateStore } from '#server/state/state-store.ts'
import { Boot } from './boot.ts'

/** Boots kept per client: a month of a machine that is switched on every day. */
export const BOOTS_KEPT_PER_CLIENT = 30

const SAVE_DELAY_MS = 500

export interface BootLogOptions {
  readonly store: StateStore
  readonly now: () => number
  readonly log: Log
}

export class BootLog {
  readonly #store: StateStore
  readonly #now: () => number
  readonly #log: Log
  /** Boots that run, or whose end is not saved yet, by client id and boot id. */
  readonly #boots = new Map<string, Boot>()
  readonly #unsaved = new Set<Boot>()
  #timer: NodeJS.Timeout | undefined
  #saving: Promise<void> = Promise.resolve()

  constructor(options: BootLogOptions) {
    this.#store = options.store
    this.#now = options.now
    this.#log = options.log
  }

  /** Marks what ran when the server was killed as lost; a boot that goes on comes back as running. */
  async markInterrupted(): Promise<void> {
    const running = (await this.list()).filter((record) => record.end === 'running')
    const endedAtMs = this.#now()
    const changes = running.map((record) => put({ ...record, end: 'lost', endedAtMs }))
    if (changes.length > 0) await this.#store.transact([], changes)
  }

  /**
   * Opens the record of a boot that begins. Earlier boots of this client that nobody speaks for any
   * more are lost, and the oldest records give way.
   */
  async begin(
    clientId: string,
    bootId: string = randomBytes(16).toString('hex'),
    startedAtMs: number = this.#now(),
  ): Promise<Boot> {
    this.#loseOthers(clientId)
    const record: BootRecord = {
      bootId,
      clientId,
      startedAtMs,
      phases: [],
      wireBytes: 0,
      end: 'running',
      notices: [],
    }
    const boot = this.#track(record)
    this.#changed(boot)
    await this.#prune(clientId)
    return boot
  }

  /** Returns the boot an agent says it belongs to, running again; a new one when it is not known. */
  async resume(clientId: string, bootId: string, startedAtMs: number): Promise<Boot> {
    const tracked = this.#boots.get(memoryKey(clientId, bootId))
    if (tracked !== undefined) {
      if (tracked.record.end !== 'running') tracked.resumed()
      return tracked
    }
    const stored = await this.find(clientId, bootId)
    // Asked again: another session of the same boot may have come first during the wait.
    const raced = this.#boots.get(memoryKey(clientId, bootId))
    if (raced !== undefined) return raced
    if (stored === undefined) return await this.begin(clientId, bootId, startedAtMs)
    const boot = this.#track(stored)
    boot.resumed()
    return boot
  }

  /** Returns the record of a boot. */
  async find(clientId: string, bootId: string): Promise<BootRecord | undefined> {
    return (await this.list(clientId)).find((record) => record.bootId === bootId)
  }

  /** Returns the running boot with this id, whichever client it belongs to. */
  findRunning(bootId: string): Boot | undefined {
    for (const boot of this.#boots.values()) {
      if (boot.record.bootId === bootId) return boot
    }
    return undefined
  }

  async end(boot: Boot, end: Exclude<BootRecord['end'], 'running'>): Promise<void> {
    boot.attached = false
    boot.ended(end, this.#now())
    await this.save()
  }

  /** Boots of one client, or of all, oldest first. */
  async list(clientId?: string): Promise<BootRecord[]> {
    const prefix = clientId === undefined ? BOOT_KEYS : `${BOOT_KEYS}${clientId}/`
    const stored = (await this.#store.range(prefix)).map(recordOf)
    const byKey = new Map(stored.map((record) => [bootKey(record), record]))
    for (const { record } of this.#boots.values()) {
      if (clientId === undefined || record.clientId === clientId) byKey.set(bootKey(record), record)
    }
    return [...byKey.values()].sort((a, b) => a.startedAtMs - b.startedAtMs)
  }

  /** Forgets all boots of a client that is removed. */
  async removeClient(clientId: string): Promise<void> {
    for (const [key, boot] of this.#boots) {
      if (boot.record.clientId !== clientId) continue
      this.#boots.delete(key)
      this.#unsaved.delete(boot)
    }
    await this.#saving
    const entries = await this.#store.range(`${BOOT_KEYS}${clientId}/`)
    await this.#remove(entries)
  }

  /** Writes down what changed. Failures are logged: a full disk must not stop machines from booting. */
  save(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#saving = this.#saving.then(() => this.#saveNow())
    return this.#saving
  }

  async #saveNow(): Promise<void> {
    const boots = [...this.#unsaved]
    this.#unsaved.clear()
    if (boots.length === 0) return
    try {
      await this.#store.transact(
        [],
        boots.map((boot) => put(boot.record)),
      )
    } catch (error) {
      this.#log.error({ err: error }, 'cannot save the boot log')
    }
    for (const boot of boots) this.#forgetEnded(boot)
  }

  #forgetEnded(boot: Boot): void {
    if (boot.record.end === 'running' || this.#unsaved.has(boot)) return
    this.#boots.delete(memoryKey(boot.record.clientId, boot.record.bootId))
  }

  #track(record: BootRecord): Boot {
    const boot = new Boot(record, () => this.#changed(boot))
    this.#boots.set(memoryKey(record.clientId, record.bootId), boot)
    return boot
  }

  #changed(boot: Boot): void {
    // A session may still speak of a boot whose client was removed: that is not written any more.
    if (this.#boots.get(memoryKey(boot.record.clientId, boot.record.bootId)) !== boot) return
    this.#unsaved.add(boot)
    this.#timer ??= setTimeout(() => void this.save(), SAVE_DELAY_MS).unref()
  }

  #loseOthers(clientId: string): void {
    for (const boot of this.#boots.values()) {
      const { record, attached } = boot
      if (record.clientId === clientId && record.end === 'running' && !attached) {
        boot.ended('lost', this.#now())
      }
    }
  }

  async #prune(clientId: string): Promise<void> {
    const entries = await this.#store.range(`${BOOT_KEYS}${clientId}/`)
    // One less: the boot that begins is not saved yet.
    const surplus = entries.length - (BOOTS_KEPT_PER_CLIENT - 1)
    if (surplus > 0) await this.#remove(entries.slice(0, surplus))
  }

  async #remove(entries: readonly StateEntry[]): Promise<void> {
    if (entries.length === 0) return
    await this.#store.transact(
      [],
      entries.map(({ key }) => ({ type: 'delete', key })),
    )
  }
}

function memoryKey(clientId: string, bootId: string): string {
  return `${clientId}/${bootId}`
}

function bootKey({ clientId, startedAtMs, bootId }: BootRecord): string {
  return `${BOOT_KEYS}${clientId}/${String(Math.max(0, Math.round(startedAtMs))).padStart(13, '0')}-${bootId}`
}

function put(record: BootRecord): StateChange {
  return { type: 'put', key: bootKey(record), value: record }
}

function recordOf(entry: StateEntry): BootRecord {
  return entry.value as BootRecord
}
