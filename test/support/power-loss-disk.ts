/**
 * A disk in memory that can lose power. What was not synced is there or not, sector by sector, in any
 * order, as with a disk that has a cache of its own.
 */
import type { DiskDevice } from '#agent/local-disk/disk-device.ts'

export const SECTOR_BYTES = 512

export class PowerLost extends Error {}

interface Written {
  readonly position: number
  readonly bytes: Buffer
}

export class PowerLossDisk implements DiskDevice {
  readonly sizeBytes: number
  /** As a reader sees it. */
  readonly bytes: Buffer
  /** Everything that was done, in order; a sync is undefined. */
  readonly log: (Written | undefined)[] = []
  /** Called before each change. */
  onChange: () => void = () => undefined
  #hasPower = true
  /** By sector, what it may turn out to hold: first what is durable. */
  readonly #unsynced = new Map<number, Buffer[]>()

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.bytes = Buffer.alloc(sizeBytes)
  }

  async read(buffer: Uint8Array, position: number): Promise<void> {
    this.#check()
    this.bytes.copy(buffer, 0, position, position + buffer.length)
  }

  async write(buffer: Uint8Array, position: number): Promise<void> {
    this.#check()
    this.onChange()
    const bytes = Buffer.from(buffer)
    this.log.push({ position, bytes })
    this.#remember(position, bytes)
    bytes.copy(this.bytes, position)
  }

  async sync(): Promise<void> {
    this.#check()
    this.onChange()
    this.log.push(undefined)
    this.#unsynced.clear()
  }

  async close(): Promise<void> {
    await Promise.resolve()
  }

  /** Whoever uses it now never gets an answer again. */
  losePower(): void {
    this.#hasPower = false
  }

  /** Comes back with what it has kept; `random` gives numbers from 0 to before 1. */
  restart(random: () => number): void {
    for (const [sector, versions] of this.#unsynced) {
      versions[Math.floor(random() * versions.length)]?.copy(this.bytes, sector * SECTOR_BYTES)
    }
    this.#unsynced.clear()
    this.#hasPower = true
  }

  #remember(position: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      const sector = (position + at) / SECTOR_BYTES
      const before = this.bytes.subarray(position + at, position + at + SECTOR_BYTES)
      const versions = this.#unsynced.get(sector) ?? [Buffer.from(before)]
      versions.push(bytes.subarray(at, at + SECTOR_BYTES))
      this.#unsynced.set(sector, versions)
    }
  }

  #check(): void {
    if (!this.#hasPower) throw new PowerLost('the disk has no power')
  }
}
