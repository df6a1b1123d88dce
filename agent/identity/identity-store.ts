/** The identity page on a partition of this machine: read, made when it is not there, and changed. */
import type { KeyPlace } from '#shared/identity/device-key.ts'
import type { DiskDevice } from '../local-disk/disk-device.ts'
import { newSeed, StoredKey } from './device-key.ts'
import {
  decodeIdentityPage,
  encodeIdentityPage,
  IDENTITY_PAGE_BYTES,
  type IdentityRecord,
} from './identity-page.ts'

export class IdentityStore {
  readonly #device: DiskDevice
  readonly #offset: number
  readonly #place: KeyPlace
  #page: Buffer
  #record: IdentityRecord

  private constructor(
    { device, offset, place }: IdentityPlace,
    page: Buffer,
    record: IdentityRecord,
  ) {
    this.#device = device
    this.#offset = offset
    this.#place = place
    this.#page = page
    this.#record = record
  }

  /** Makes a key where there is none. @throws what the disk says */
  static async open(where: IdentityPlace): Promise<IdentityStore> {
    const page = Buffer.alloc(IDENTITY_PAGE_BYTES)
    await where.device.read(page, where.offset)
    const record = decodeIdentityPage(page)
    if (record !== undefined) return new IdentityStore(where, page, record)
    const made = { seed: newSeed(), serverPins: [] }
    const store = new IdentityStore(where, page, made)
    await store.#write(made)
    return store
  }

  /** Gives the machine another key, which nobody knows yet. @throws what the disk says */
  static async renew(where: IdentityPlace): Promise<IdentityStore> {
    const store = await IdentityStore.open(where)
    await store.#write({ ...store.#record, seed: newSeed() })
    return store
  }

  get key(): StoredKey {
    return new StoredKey(this.#record.seed, this.#place)
  }

  get serverPins(): readonly string[] {
    return this.#record.serverPins
  }

  /** Returns when the server is known after a loss of power, too. @throws what the disk says */
  async addServer(pin: string): Promise<void> {
    const { serverPins } = this.#record
    if (serverPins.at(-1) === pin) return
    const others = serverPins.filter((it) => it !== pin)
    await this.#write({ ...this.#record, serverPins: [...others, pin] })
  }

  async #write(record: IdentityRecord): Promise<void> {
    const page = encodeIdentityPage(this.#page, record)
    await this.#device.write(page, this.#offset)
    await this.#device.sync()
    this.#page = page
    this.#record = record
  }
}

/** Makes a place for a key; the next boot makes the key. @throws what the disk says */
export async function formatIdentity(device: DiskDevice): Promise<void> {
  await device.write(Buffer.alloc(IDENTITY_PAGE_BYTES), 0)
  await device.sync()
}

/** Where a page lies. */
export interface IdentityPlace {
  readonly device: DiskDevice
  readonly offset: number
  readonly place: KeyPlace
}
