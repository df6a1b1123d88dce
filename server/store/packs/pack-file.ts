/** A pack's file, shared by all who read it. */
import { type FileHandle, open } from 'node:fs/promises'
import { invariant } from '#shared/invariant.ts'

export class PackFile {
  readonly packId: string
  readonly path: string
  readonly #opening: Promise<FileHandle>
  #handle: FileHandle | undefined
  users = 1

  constructor(packId: string, path: string) {
    this.packId = packId
    this.path = path
    this.#opening = open(path)
  }

  /** @throws Node's error when it is not there */
  async opened(): Promise<this> {
    this.#handle = await this.#opening
    return this
  }

  get descriptor(): number {
    invariant(this.#handle !== undefined, `"${this.path}" is open`)
    return this.#handle.fd
  }

  async close(): Promise<void> {
    await (await this.#opening).close()
  }
}
