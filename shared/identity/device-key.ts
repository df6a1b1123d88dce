/**
 * The key by which a machine proves who it is (PROTOCOL.md §5): how its proof is made up, and how it is
 * checked. A proof is a signature over what only the two ends of one TLS connection know (RFC 5705), so it
 * is worth nothing on any other.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { BootwireError } from '#shared/errors.ts'

/** Of `exportKeyingMaterial`: label and bytes of the channel binding. */
export const BINDING_LABEL = 'EXPORTER-bootwire-device-proof'
export const BINDING_BYTES = 32

/** What the server adds, so that it need not believe in the client's TLS. */
export const NONCE_BYTES = 32

/** An SPKI of P-256 has 91 bytes, one of Ed25519 44. */
export const DEVICE_KEY_BYTES_MAX = 128
/** Both kinds have 64 bytes. */
export const DEVICE_SIGNATURE_BYTES = 64

/** Where a machine keeps its key. */
export const KEY_PLACES = ['tpm', 'partition', 'cache'] as const
export type KeyPlace = (typeof KEY_PLACES)[number]

export interface ProofParts {
  /** BINDING_BYTES of this TLS connection. */
  readonly binding: Uint8Array
  /** The whole control frame with `hello`: what it claims is what is signed. */
  readonly hello: Uint8Array
  /** NONCE_BYTES of the server. */
  readonly nonce: Uint8Array
}

const CONTEXT = Buffer.from('bootwire-device-proof-v1\0')

/** What is signed. */
export function proofText({ binding, hello, nonce }: ProofParts): Buffer {
  const helloHash = createHash('sha256').update(hello).digest()
  return Buffer.concat([CONTEXT, binding, helloHash, nonce])
}

/** Returns the SHA-256 of the key's SubjectPublicKeyInfo, base64url without padding (43 characters). */
export function keyFingerprint(spki: Uint8Array): string {
  return createHash('sha256').update(spki).digest('base64url')
}

/**
 * Whether the signature is this key's: Ed25519 (RFC 8032), or ECDSA on P-256 with SHA-256, r and s of 32
 * bytes each (IEEE P1363), which is what TPMs have.
 * @throws {BootwireError} MESSAGE_INVALID when the key is neither
 */
export function isProof(spki: Uint8Array, signature: Uint8Array, text: Uint8Array): boolean {
  const key = parseDeviceKey(spki)
  if (signature.length !== DEVICE_SIGNATURE_BYTES) return false
  if (key.asymmetricKeyType === 'ed25519') return verify(null, text, key, signature)
  return verify('sha256', text, { key, dsaEncoding: 'ieee-p1363' }, signature)
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function parseDeviceKey(spki: Uint8Array): KeyObject {
  let key: KeyObject | undefined
  try {
    key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  } catch {
    // Said below.
  }
  const type = key?.asymmetricKeyType
  const isP256 = type === 'ec' && key?.asymmetricKeyDetails?.namedCurve === 'prime256v1'
  if (key !== undefined && (type === 'ed25519' || isP256)) return key
  throw new BootwireError(
    'MESSAGE_INVALID',
    "Cannot use the machine's key: expected the SubjectPublicKeyInfo of an Ed25519 or P-256 key",
  )
}
