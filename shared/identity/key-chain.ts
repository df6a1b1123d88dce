/**
 * A server that changes its key says by its former one which key follows, so that machines that know the
 * former one trust the new one without anybody's doing (PROTOCOL.md §1).
 */
import { createPublicKey, hash, sign, verify } from 'node:crypto'
import * as v from 'valibot'

/** More changes than a server has years; the oldest are forgotten. */
export const KEY_CHAIN_MAX = 64

const KEY_BYTES_MAX = 256
const PIN = /^[\w-]{43}$/

export const keyChainSchema = v.pipe(
  v.array(
    v.object({
      /** SubjectPublicKeyInfo of the former key, base64. */
      from: v.pipe(v.string(), v.base64(), v.maxLength(KEY_BYTES_MAX * 2)),
      /** Pin of the key that follows. */
      to: v.pipe(v.string(), v.regex(PIN)),
      /** ECDSA P-256 with SHA-256 by the former key, IEEE P1363, base64. */
      signature: v.pipe(v.string(), v.base64(), v.maxLength(KEY_BYTES_MAX)),
    }),
  ),
  v.maxLength(KEY_CHAIN_MAX),
)
/** Oldest first. */
export type KeyChain = v.InferOutput<typeof keyChainSchema>

const CONTEXT = 'bootwire-key-roll-over-v1\0'

/** What the former key says; `keyPem` is its private half. */
export function signRollOver(keyPem: string, toPin: string): KeyChain[number] {
  const from = createPublicKey(keyPem).export({ type: 'spki', format: 'der' })
  const signature = sign('sha256', Buffer.from(CONTEXT + toPin), {
    key: keyPem,
    dsaEncoding: 'ieee-p1363',
  })
  return { from: from.toString('base64'), to: toPin, signature: signature.toString('base64') }
}

/** Returns the pins, and those that they lead to by the words of their keys. */
export function followChain(pins: Iterable<string>, chain: KeyChain): Set<string> {
  const trusted = new Set(pins)
  for (const { from, to, signature } of chain) {
    const spki = Buffer.from(from, 'base64')
    if (!trusted.has(hash('sha256', spki, 'base64url'))) continue
    if (isSigned(spki, Buffer.from(CONTEXT + to), Buffer.from(signature, 'base64'))) trusted.add(to)
  }
  return trusted
}

function isSigned(spki: Buffer, text: Buffer, signature: Buffer): boolean {
  try {
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    return verify('sha256', text, { key, dsaEncoding: 'ieee-p1363' }, signature)
  } catch {
    return false // a key that is none
  }
}
