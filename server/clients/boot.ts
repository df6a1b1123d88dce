/**
 * One boot of one client while it happens: what the boot log keeps of it, with a mark when there is
 * something to save. Changes are plain memory; the log writes them down together.
 */

import type { BootRecord } from '#server/state/records.ts'
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import type { Status } from '#shared/wire/messages.ts'

/** Notices kept per boot: the first ones tell what went wrong, the rest usually repeats it. */
export const NOTICES_KEPT_MAX = 50

export class Boot {
  /** True while a session belongs to this boot. */
  attached = false
  #record: BootRecord
  /** Not in the record yet: there are hundreds of writes for each look at it. */
  #newWireBytes = 0
  readonly #changed: () => void

  constructor(record: BootRecord, changed: () => void) {
    this.#record = record
    this.#changed = changed
  }

  get record(): BootRecord {
    if (this.#newWireBytes > 0) {
      const wireBytes = this.#record.wireBytes + this.#newWireBytes
      this.#record = { ...this.#record, wireBytes }
      this.#newWireBytes = 0
    }
    return this.#record
  }

  /**
   * Notes when a phase was reached, once: a reconnecting agent repeats itself. Times are kept in
   * order of time, since phases of agent and server arrive interleaved.
   */
  stamp(phase: BootPhase, atMs: number): void {
    if (this.#record.phases.some((stamped) => stamped.phase === phase)) return
    const phases = [...this.#record.phases, { phase, atMs }].sort((a, b) => a.atMs - b.atMs)
    this.#update({ phases })
  }

  opened(vdisk: string, versionId: string): void {
    this.#update({ vdisk, versionId })
  }

  /** Counts bytes sent. Not worth a write of its own: saved with whatever comes next. */
  addWireBytes(bytes: number): void {
    this.#newWireBytes += bytes
  }

  reported(lastStatus: Omit<Status, 'kind'>): void {
    this.#update({ lastStatus })
  }

  /** Returns false when there are enough of them and this one is not kept. */
  noticed(notice: BootRecord['notices'][number]): boolean {
    if (this.#record.notices.length >= NOTICES_KEPT_MAX) return false
    this.#update({ notices: [...this.#record.notices, notice] })
    return true
  }

  ended(end: Exclude<BootRecord['end'], 'running'>, endedAtMs: number): void {
    this.#update({ end, endedAtMs })
  }

  /** The agent is back: after a lost connection, a restart of the server, or kexec. */
  resumed(): void {
    if (this.#record.end === 'lost') this.reconnected()
    const { endedAtMs: _, ...rest } = this.#record
    this.#record = { ...rest, end: 'running' }
    this.#changed()
  }

  /** The agent has another connection in place of one that was lost. */
  reconnected(): void {
    this.#update({ reconnects: (this.#record.reconnects ?? 0) + 1 })
  }

  #update(fields: Partial<BootRecord>): void {
    this.#record = { ...this.#record, ...fields }
    this.#changed()
  }
}
