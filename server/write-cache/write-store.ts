/**
 * The folder with what clients have written (FORMAT.md): who may use what, how much there may be, and what
 * is given up.
 */
import { mkdir, readdir, readFile, rename, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import type { Log } from '#server/log.ts'
import { syncFolder, writeDurably } from '#server/store/durable-file.ts'
import { BootwireError } from '#shared/errors.ts'
import { GiB, MiB } from '#shared/units.ts'
import { ClientWrites } from './client-writes.ts'

/** Whose it is, and over what. */
export interface WritesKey {
  readonly clientId: string
  readonly bootId: string
  readonly vdisk: string
  readonly versionId: string
  readonly sizeBytes: number
  readonly isKept: boolean
  /** Whether this boot has had a vDisk open before: it has no claim to what another boot took over. */
  readonly resumes: boolean
}

export interface WriteStoreOptions {
  readonly folder: string
  /** Most bytes of one client. */
  readonly quotaBytes: number
  readonly log: Log
}

/** For who has said nothing: what a desktop writes in a long day, twice. */
export const WRITE_QUOTA_BYTES_DEFAULT: number = 8 * GiB

/** Left on the server's disk for what the server itself needs. */
const DISK_RESERVE_BYTES: number = 512 * MiB

const FORMAT = 1

const ownerSchema = v.object({
  format: v.literal(FORMAT),
  bootId: v.string(),
  vdisk: v.string(),
  versionId: v.string(),
  sizeBytes: v.number(),
})

/** What is kept for a client over one vDisk. */
export interface KeptWrites {
  readonly vdisk: string
  readonly versionId: string
}

export class WriteStore {
  readonly #options: WriteStoreOptions
  /** Open ones by folder: a later user of the same waits until the former has closed it. */
  readonly #open = new Map<string, Promise<void>>()

  constructor(options: WriteStoreOptions) {
    this.#options = options
  }

  get quotaBytes(): number {
    return this.#options.quotaBytes
  }

  /**
   * What the client has written there, which from now on is this boot's; what it dropped with an earlier
   * boot is gone.
   * @throws {BootwireError} WRITES_FENCED when another boot of the client has it; WRITES_UNUSABLE
   */
  async open(key: WritesKey): Promise<OpenWrites> {
    const folder = this.#folderOf(key)
    await this.#open.get(folder)
    const closed = Promise.withResolvers<void>()
    this.#open.set(folder, closed.promise)
    try {
      await this.#claim(folder, key)
      const writes = await ClientWrites.open(folder)
      return new OpenWrites(writes, this.#options, folder, closed.resolve)
    } catch (error) {
      closed.resolve()
      throw error
    }
  }

  /** Gives up what an earlier boot of the client has dropped. */
  async forgetBoots(clientId: string, bootId: string): Promise<void> {
    for (const folder of await this.#foldersOf(clientId)) {
      const dropped = join(folder, 'dropped')
      const owner = await readOwner(dropped).catch(() => undefined)
      if (owner === undefined || owner.bootId !== bootId) await remove(dropped)
    }
  }

  /** What is kept for a client. */
  async kept(clientId: string): Promise<KeptWrites[]> {
    const kept: KeptWrites[] = []
    for (const folder of await this.#foldersOf(clientId)) {
      const owner = await readOwner(join(folder, 'kept')).catch(() => undefined)
      if (owner !== undefined) kept.push({ vdisk: owner.vdisk, versionId: owner.versionId })
    }
    return kept
  }

  /** Gives up what is kept for a client over a vDisk. */
  async discard(clientId: string, vdisk: string): Promise<void> {
    for (const { vdisk: name, versionId } of await this.kept(clientId)) {
      if (name === vdisk) await remove(join(this.#options.folder, clientId, versionId, 'kept'))
    }
  }

  /** Gives up all of a client. */
  async removeClient(clientId: string): Promise<void> {
    await remove(join(this.#options.folder, clientId))
  }

  /** Removes what belongs to no client that there is. */
  async sweep(clientIds: ReadonlySet<string>): Promise<void> {
    for (const name of await namesIn(this.#options.folder)) {
      if (clientIds.has(name)) continue
      this.#options.log.info({ client: name }, 'removing what a client has written that is gone')
      await this.removeClient(name)
    }
  }

  #folderOf({ clientId, versionId, isKept }: WritesKey): string {
    return join(this.#options.folder, clientId, versionId, isKept ? 'kept' : 'dropped')
  }

  async #foldersOf(clientId: string): Promise<string[]> {
    const folder = join(this.#options.folder, clientId)
    return (await namesIn(folder)).map((name) => join(folder, name))
  }

  async #claim(folder: string, key: WritesKey): Promise<void> {
    const { bootId, vdisk, versionId, sizeBytes, isKept, resumes } = key
    const owner = await readOwner(folder)
    if (owner?.bootId === bootId) return
    if (owner !== undefined && resumes) {
      throw new BootwireError(
        'WRITES_FENCED',
        `Cannot go on with what this client has written over "${vdisk}": a later boot of it has taken over`,
      )
    }
    if (owner !== undefined && owner.sizeBytes !== sizeBytes) {
      throw unusable(folder, `it is for a vDisk of ${owner.sizeBytes} bytes, not ${sizeBytes}`)
    }
    if (!isKept) await remove(folder)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const text = JSON.stringify({ format: FORMAT, bootId, vdisk, versionId, sizeBytes })
    const passing = join(folder, 'owner.new')
    await rm(passing, { force: true })
    await writeDurably(passing, Buffer.from(text))
    await rename(passing, join(folder, 'owner'))
    await syncFolder(folder)
  }
}

/** What a client writes, as long as it has it open. */
export class OpenWrites {
  readonly writes: ClientWrites
  readonly #options: WriteStoreOptions
  readonly #folder: string
  readonly #onClosed: () => void

  constructor(
    writes: ClientWrites,
    options: WriteStoreOptions,
    folder: string,
    onClosed: () => void,
  ) {
    this.writes = writes
    this.#options = options
    this.#folder = folder
    this.#onClosed = onClosed
  }

  /** How much more may be written. */
  async roomBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#folder)
    const onDisk = bavail * bsize - DISK_RESERVE_BYTES
    return Math.max(0, Math.min(this.#options.quotaBytes - this.writes.usedBytes, onDisk))
  }

  async close(): Promise<void> {
    try {
      await this.writes.close()
    } finally {
      this.#onClosed()
    }
  }
}

async function readOwner(folder: string): Promise<v.InferOutput<typeof ownerSchema> | undefined> {
  let text: string
  try {
    text = await readFile(join(folder, 'owner'), 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  try {
    return v.parse(ownerSchema, JSON.parse(text))
  } catch (cause) {
    throw unusable(folder, 'its owner file is damaged, or of another format', cause)
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true })
}

function unusable(folder: string, why: string, cause?: unknown): BootwireError {
  return new BootwireError(
    'WRITES_UNUSABLE',
    `Cannot use what was written in "${folder}": ${why}`,
    {
      cause,
    },
  )
}
