/** Who this machine is: its key from the best place that it has, looked for once, beside everything else. */
import type { DeviceKey } from '../identity/device-key.ts'
import type { IdentityStore } from '../identity/identity-store.ts'
import { TpmKey } from '../identity/tpm-key.ts'

export interface DeviceIdentityParts {
  /** On the local disk, or a stick; undefined where there is none. */
  readonly store: () => Promise<IdentityStore | undefined>
  /** Something is wrong with a place for the key: a sentence. */
  readonly onProblem: (problem: string) => void
  /** Default is `TpmKey.open`. */
  readonly openTpm?: () => Promise<DeviceKey | undefined>
}

export class DeviceIdentity {
  readonly #parts: DeviceIdentityParts
  #found: Promise<DeviceKey | undefined> | undefined

  constructor(parts: DeviceIdentityParts) {
    this.#parts = parts
  }

  /** The machine's key; undefined where it has no place for one. Rejects never. */
  key(): Promise<DeviceKey | undefined> {
    this.#found ??= this.#find()
    return this.#found
  }

  /** Servers that this machine has written down. Rejects never. */
  async servers(): Promise<readonly string[]> {
    return (await this.#attempt(this.#parts.store))?.serverPins ?? []
  }

  /** Writes servers down that have shown to know this machine. Rejects never. */
  async remember(pins: Iterable<string>): Promise<void> {
    await this.#attempt(async () => {
      const store = await this.#parts.store()
      for (const pin of pins) await store?.addServer(pin)
      return store
    })
  }

  /** A TPM first: nobody carries its key away. */
  async #find(): Promise<DeviceKey | undefined> {
    const { store, openTpm = () => TpmKey.open() } = this.#parts
    return (await this.#attempt(openTpm)) ?? (await this.#attempt(store))?.key
  }

  async #attempt<Found>(find: () => Promise<Found | undefined>): Promise<Found | undefined> {
    try {
      return await find()
    } catch (error) {
      this.#parts.onProblem(error instanceof Error ? error.message : String(error))
      return undefined
    }
  }
}
