/** The key by which this machine proves who it is, wherever it is kept. */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto'
import type { KeyPlace } from '#shared/identity/device-key.ts'

export interface DeviceKey {
  /** SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  readonly place: KeyPlace
  /** Signs as `isProof` of shared/identity/device-key.ts checks it. */
  sign(text: Uint8Array): Promise<Uint8Array>
}

/** Of an Ed25519 private key (RFC 8032 §5.1.5). */
export const SEED_BYTES = 32

/** What stands before the seed in PKCS #8 (RFC 8410 §7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')

export function newSeed(): Buffer {
  return randomBytes(SEED_BYTES)
}

/** A key whose secret this program has. */
export class StoredKey implements DeviceKey {
  readonly spki: Uint8Array
  readonly place: KeyPlace
  readonly #key: KeyObject

  constructor(seed: Uint8Array, place: KeyPlace) {
    const der = Buffer.concat([PKCS8_PREFIX, seed])
    this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    this.spki = createPublicKey(this.#key).export({ type: 'spki', format: 'der' })
    this.place = place
  }

  async sign(text: Uint8Array): Promise<Uint8Array> {
    return sign(null, text, this.#key)
  }
}
