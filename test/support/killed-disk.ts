/** A StoreDisk that stops at a certain call, as a process does that is killed there. */
import { type NewFile, NODE_DISK, type StoreDisk } from '#server/store/store-disk.ts'

export class KilledError extends Error {}

export class KilledDisk implements StoreDisk {
  readonly #callsBefore: number
  #calls = 0

  /** Call number `callsBefore`, counted from 0, is not done any more: of a write, half. */
  constructor(callsBefore: number) {
    this.#callsBefore = callsBefore
  }

  get isKilled(): boolean {
    return this.#calls > this.#callsBefore
  }

  async createFile(path: string): Promise<NewFile> {
    this.#step()
    const file = await NODE_DISK.createFile(path)
    return {
      write: async (bytes, position) => {
        const wasAlive = !this.isKilled
        try {
          this.#step()
        } catch (error) {
          if (wasAlive) await file.write(bytes.subarray(0, bytes.length >>> 1), position)
          throw error
        }
        await file.write(bytes, position)
      },
      truncate: async (length) => {
        this.#step()
        await file.truncate(length)
      },
      sync: async () => this.#step(),
      // The dead have nothing open.
      close: () => file.close(),
    }
  }

  async rename(from: string, to: string): Promise<void> {
    this.#step()
    await NODE_DISK.rename(from, to)
  }

  async removeFile(path: string): Promise<void> {
    this.#step()
    await NODE_DISK.removeFile(path)
  }

  async createFolder(path: string): Promise<void> {
    this.#step()
    await NODE_DISK.createFolder(path)
  }

  async removeFolder(path: string): Promise<void> {
    this.#step()
    await NODE_DISK.removeFolder(path)
  }

  async syncFolder(_path: string): Promise<void> {
    this.#step()
  }

  #step(): void {
    if (this.#calls >= this.#callsBefore) {
      this.#calls = this.#callsBefore + 1
      throw new KilledError('killed')
    }
    this.#calls += 1
  }
}
