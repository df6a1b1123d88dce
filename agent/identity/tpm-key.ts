/**
 * A device key that never leaves the machine's TPM 2.0: an ECDSA key on P-256 that the TPM derives from its
 * owner seed and a fixed template, so that it is the same at every boot and nothing is stored anywhere. It
 * lasts as long as nobody clears the TPM. (TCG TPM 2.0 Library, part 3: CreatePrimary §24.1, Sign §20.2.)
 */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { KeyPlace } from '#shared/identity/device-key.ts'
import type { DeviceKey } from './device-key.ts'
import {
  createPrimaryCommand,
  parseCreatePrimary,
  parseSign,
  signCommand,
  TPM_RESPONSE_BYTES_MAX,
} from './tpm-commands.ts'

/** By the kernel's resource manager, so that others may use the TPM at the same time. */
const TPM_DEVICE = '/dev/tpmrm0'

export class TpmKey implements DeviceKey {
  readonly spki: Uint8Array
  readonly place: KeyPlace = 'tpm'
  readonly #tpm: Tpm
  readonly #handle: number
  /** A TPM does one thing after the other. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(tpm: Tpm, handle: number, spki: Uint8Array) {
    this.#tpm = tpm
    this.#handle = handle
    this.spki = spki
  }

  /**
   * Returns undefined when the machine has no TPM.
   * @throws an error with the TPM's response code: its owner hierarchy may have a password
   */
  static async open(path = TPM_DEVICE): Promise<TpmKey | undefined> {
    const tpm = await deviceTpm(path).catch(() => undefined) // none, or its driver is not there
    if (tpm === undefined) return undefined
    try {
      return await TpmKey.of(tpm)
    } catch (error) {
      await tpm.close()
      throw error
    }
  }

  static async of(tpm: Tpm): Promise<TpmKey> {
    const { handle, spki } = parseCreatePrimary(await tpm.exchange(createPrimaryCommand()))
    return new TpmKey(tpm, handle, spki)
  }

  async sign(text: Uint8Array): Promise<Uint8Array> {
    const digest = createHash('sha256').update(text).digest()
    const signed = this.#last.then(async () =>
      parseSign(await this.#tpm.exchange(signCommand(this.#handle, digest))),
    )
    this.#last = signed.catch(() => undefined)
    return await signed
  }

  /** The kernel forgets the key's handle with it. */
  async close(): Promise<void> {
    await this.#tpm.close()
  }
}

/** Whoever takes commands and answers each with a response. */
export interface Tpm {
  exchange(command: Buffer): Promise<Buffer>
  close(): Promise<void>
}

/** One command is one write, its response one read. @throws what open(2) says */
async function deviceTpm(path: string): Promise<Tpm> {
  const device = await open(path, 'r+')
  return {
    exchange: async (command) => {
      await device.write(command, 0, command.length, null)
      const response = Buffer.alloc(TPM_RESPONSE_BYTES_MAX)
      const { bytesRead } = await device.read(response, 0, response.length, null)
      return response.subarray(0, bytesRead)
    },
    close: async () => await device.close(),
  }
}
