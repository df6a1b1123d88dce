/**
 * What one client has written over one version, on the server's disk (FORMAT.md). One user at a time, whose
 * calls follow one another.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  BlockStates,
  STATE_BASE,
  STATE_WRITTEN,
  STATE_ZERO,
  type StateRun,
} from './block-states.ts'

export class ClientWrites {
  readonly #data: FileHandle
  readonly #table: FileHandle
  readonly #states: BlockStates

  private constructor(data: FileHandle, table: FileHandle, states: BlockStates) {
    this.#data = data
    this.#table = table
    this.#states = states
  }

  /** The folder is there; its files may not be. @throws what the system says */
  static async open(folder: string): Promise<ClientWrites> {
    await using opened = new AsyncDisposableStack()
    const files: FileHandle[] = []
    for (const name of ['data', 'table']) {
      // For reading and writing, made when it is missing, never cut.
      const file = await open(join(folder, name), 'a').then(async (it) => {
        await it.close()
        return await open(join(folder, name), 'r+')
      })
      opened.defer(() => file.close())
      files.push(file)
    }
    const [data, table] = files as [FileHandle, FileHandle]
    const states = await BlockStates.open(table)
    opened.move()
    return new ClientWrites(data, table, states)
  }

  /** Bytes of blocks that were written. */
  get usedBytes(): number {
    return this.#states.writtenBlocks * BLOCK_BYTES
  }

  /** Whole blocks. Read again at once, durable after `sync`. */
  async write(firstBlock: number, bytes: Uint8Array): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      const at = firstBlock * BLOCK_BYTES + done
      const { bytesWritten } = await this.#data.write(bytes, done, bytes.length - done, at)
      done += bytesWritten
    }
    await this.#states.set(firstBlock, bytes.length / BLOCK_BYTES, STATE_WRITTEN)
  }

  async zero(firstBlock: number, blocks: number): Promise<void> {
    await this.#states.set(firstBlock, blocks, STATE_ZERO)
  }

  /** They are as in the base again. */
  async forget(firstBlock: number, blocks: number): Promise<void> {
    await this.#states.set(firstBlock, blocks, STATE_BASE)
  }

  /** Fills the target with blocks that were written. Returns false when one of them was not. */
  async read(firstBlock: number, target: Uint8Array): Promise<boolean> {
    const blocks = target.length / BLOCK_BYTES
    if (!(await this.#states.are(firstBlock, blocks, STATE_WRITTEN))) return false
    for (let done = 0; done < target.length; ) {
      const at = firstBlock * BLOCK_BYTES + done
      const { bytesRead } = await this.#data.read(target, done, target.length - done, at)
      if (bytesRead === 0) return false
      done += bytesRead
    }
    return true
  }

  /** All that is not as in the base, in order. */
  runs(): AsyncGenerator<StateRun> {
    return this.#states.runs()
  }

  /** Returns when everything so far survives a loss of power. */
  async sync(): Promise<void> {
    await this.#data.datasync()
    await this.#states.write()
    await this.#table.datasync()
  }

  async close(): Promise<void> {
    await this.#data.close()
    await this.#table.close()
  }
}
