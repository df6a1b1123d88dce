/**
 * The root record: what a version's id is the hash of, and what the server signs.
 *
 *     offset 0   magic `bwroot` and two digits of the format, `01`
 *            8   size of the vDisk in bytes u64
 *           16   blocks of a span u16, children of a node u16
 *           20   parameters of the cut (chunk-cutting.ts) u8 each: min, rareUntil, rareOneIn, oneIn,
 *                max, zeroRun
 *           26   reserved, 0
 *           32   hash of the root node; all zero when the vDisk is
 *
 * 64 bytes, integers big-endian. How the data was cut means nothing to a reader; it is there so that
 * the next import cuts the same way.
 */
import { createPublicKey, hash, sign, verify } from 'node:crypto'
import { type CutParameters, EVEN_GRID } from '#shared/chunk/chunk-cutting.ts'
import { BootwireError } from '#shared/errors.ts'
import { formatPins, isPinned, type Pins } from '#shared/identity/key-pin.ts'
import { HASH_BYTES } from './content-hash.ts'
import { FAN_OUT, SPAN_BLOCKS, VDISK_BYTES_MAX } from './tree-shape.ts'

export const ROOT_RECORD_BYTES = 64
const MAGIC = new TextEncoder().encode('bwroot01')

export interface VersionRoot {
  readonly sizeBytes: number
  readonly cut: CutParameters
  /** ZERO_HASH when every byte is zero. */
  readonly rootHash: Uint8Array
}

/** A root record with the server's word for it, as it travels and is kept. */
export interface SignedRoot {
  readonly record: Uint8Array
  /** ECDSA P-256 with SHA-256 over the record, r and s of 32 bytes each (IEEE P1363). */
  readonly signature: Uint8Array
  /** SubjectPublicKeyInfo (DER) of the key it was made with: the one whose pin the agent was given. */
  readonly signerKey: Uint8Array
}

export function encodeVersionRoot({ sizeBytes, cut, rootHash }: VersionRoot): Uint8Array {
  const record = new Uint8Array(ROOT_RECORD_BYTES)
  const view = new DataView(record.buffer)
  record.set(MAGIC)
  view.setBigUint64(8, BigInt(sizeBytes))
  view.setUint16(16, SPAN_BLOCKS)
  view.setUint16(18, FAN_OUT)
  const { minBlocks, rareUntilBlocks, rareOneIn, oneIn, maxBlocks, zeroRunBlocks } = cut
  record.set([minBlocks, rareUntilBlocks, rareOneIn, oneIn, maxBlocks, zeroRunBlocks], 20)
  record.set(rootHash, 32)
  return record
}

/** @throws {BootwireError} MANIFEST_INVALID */
export function decodeVersionRoot(record: Uint8Array): VersionRoot {
  if (record.length !== ROOT_RECORD_BYTES) throw invalid(`it has ${record.length} bytes`)
  if (!MAGIC.every((byte, at) => record[at] === byte)) {
    throw invalid('its format is not one this program knows')
  }
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength)
  const sizeBytes = Number(view.getBigUint64(8))
  if (sizeBytes === 0 || sizeBytes > VDISK_BYTES_MAX) {
    throw invalid(`the vDisk has ${sizeBytes} bytes`)
  }
  if (view.getUint16(16) !== SPAN_BLOCKS || view.getUint16(18) !== FAN_OUT) {
    throw invalid('its tree has another shape')
  }
  const [minBlocks, rareUntilBlocks, rareOneIn, oneIn, maxBlocks, zeroRunBlocks] = record.subarray(
    20,
    26,
  ) as unknown as [number, number, number, number, number, number]
  const cut = { minBlocks, rareUntilBlocks, rareOneIn, oneIn, maxBlocks, zeroRunBlocks }
  return { sizeBytes, cut, rootHash: record.slice(32, 32 + HASH_BYTES) }
}

/** 64 hex digits. */
export function versionIdOf(record: Uint8Array): string {
  return hash('sha256', record, 'hex')
}

/** `keyPem` is the private key, `signerKey` its public half (SPKI, DER). */
export function signVersionRoot(
  record: Uint8Array,
  keyPem: string,
  signerKey: Uint8Array,
): SignedRoot {
  const signature = sign('sha256', record, { key: keyPem, dsaEncoding: 'ieee-p1363' })
  return { record, signature, signerKey }
}

/**
 * Returns the root that a key with this pin (SHA-256 of the SPKI, base64url) has signed for the
 * version.
 * @throws {BootwireError} MANIFEST_UNTRUSTED, MANIFEST_INVALID
 */
export function verifyVersionRoot(
  { record, signature, signerKey }: SignedRoot,
  versionId: string,
  pins: Pins,
): VersionRoot {
  if (versionIdOf(record) !== versionId) {
    throw untrusted(versionId, `the record is that of version ${versionIdOf(record)}`)
  }
  const signer = hash('sha256', signerKey, 'base64url')
  if (!isPinned(pins, signer)) {
    throw untrusted(versionId, `key ${signer} signed it, expected ${formatPins(pins)}`)
  }
  if (!isSigned(record, signature, signerKey)) throw untrusted(versionId, 'its signature is wrong')
  return decodeVersionRoot(record)
}

function isSigned(record: Uint8Array, signature: Uint8Array, signerKey: Uint8Array): boolean {
  try {
    const key = createPublicKey({ key: Buffer.from(signerKey), format: 'der', type: 'spki' })
    return verify('sha256', record, { key, dsaEncoding: 'ieee-p1363' }, signature)
  } catch {
    // A key or a signature that is none proves nothing either.
    return false
  }
}

/** How a new version is cut. */
export const CUT_TODAY: CutParameters = EVEN_GRID

function invalid(why: string): BootwireError {
  return new BootwireError('MANIFEST_INVALID', `Cannot use the root of a version: ${why}`)
}

function untrusted(versionId: string, why: string): BootwireError {
  return new BootwireError('MANIFEST_UNTRUSTED', `Cannot trust version ${versionId}: ${why}`)
}
