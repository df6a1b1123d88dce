/** A disk in memory that fails as told: bad places, refused writes, no answers at all. */
import type { DiskDevice } from '#agent/local-disk/disk-device.ts'

export class FaultyDisk implements DiskDevice {
  readonly sizeBytes: number
  readonly bytes: Buffer
  /** Offset and length of each read. */
  readonly reads: { readonly position: number; readonly length: number }[] = []
  writtenBytes = 0
  syncs = 0
  isClosed = false
  /** Reads that touch this fail. */
  badBytes: { readonly from: number; readonly to: number } = { from: 0, to: 0 }
  /** What writes and syncs fail with. */
  writeError: Error | undefined
  #hanging: (() => void)[] | undefined

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.bytes = Buffer.alloc(sizeBytes)
  }

  /** From now on nothing is answered. */
  hang(): void {
    this.#hanging = []
  }

  /** Answers what was asked meanwhile, and everything again. */
  goOn(): void {
    const hanging = this.#hanging ?? []
    this.#hanging = undefined
    for (const resume of hanging) resume()
  }

  async read(buffer: Uint8Array, position: number): Promise<void> {
    await this.#answer()
    this.reads.push({ position, length: buffer.length })
    const { from, to } = this.badBytes
    if (position < to && position + buffer.length > from) throw new Error('EIO: i/o error, read')
    this.bytes.copy(buffer, 0, position, position + buffer.length)
  }

  async write(buffer: Uint8Array, position: number): Promise<void> {
    await this.#answer()
    if (this.writeError !== undefined) throw this.writeError
    this.writtenBytes += buffer.length
    this.bytes.set(buffer, position)
  }

  async sync(): Promise<void> {
    await this.#answer()
    if (this.writeError !== undefined) throw this.writeError
    this.syncs += 1
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  async #answer(): Promise<void> {
    const hanging = this.#hanging
    if (hanging !== undefined) await new Promise<void>((resolve) => hanging.push(resolve))
  }
}
