import assert from 'node:assert/strict'
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { describe, it } from 'node:test'
import { isProof, keyFingerprint, proofText } from '#shared/identity/device-key.ts'

const parts = {
  binding: Buffer.alloc(32, 1),
  hello: Buffer.from('hello'),
  nonce: Buffer.alloc(32, 2),
}
const TEXT = proofText(parts)

const spkiOf = (key: KeyObject) => key.export({ type: 'spki', format: 'der' })

describe('proofs', () => {
  const ed25519 = generateKeyPairSync('ed25519')
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const dsaEncoding = 'ieee-p1363' as const

  it('are signatures of Ed25519 or P-256 keys', () => {
    assert.ok(isProof(spkiOf(ed25519.publicKey), sign(null, TEXT, ed25519.privateKey), TEXT))
    const signed = sign('sha256', TEXT, { key: p256.privateKey, dsaEncoding })
    assert.ok(isProof(spkiOf(p256.publicKey), signed, TEXT))
  })

  it('are worth nothing for another connection, hello or nonce, nor by another key', () => {
    const signature = sign(null, TEXT, ed25519.privateKey)
    const spki = spkiOf(ed25519.publicKey)
    const others = [
      { ...parts, binding: Buffer.alloc(32, 3) },
      { ...parts, hello: Buffer.from('hallo') },
      { ...parts, nonce: Buffer.alloc(32, 4) },
    ]
    for (const other of others) assert.equal(isProof(spki, signature, proofText(other)), false)
    const stranger = generateKeyPairSync('ed25519').publicKey
    assert.equal(isProof(spkiOf(stranger), signature, TEXT), false)
    assert.equal(isProof(spki, signature.subarray(1), TEXT), false)
    assert.equal(isProof(spki, Buffer.alloc(64), TEXT), false)
  })

  it('are of no other kind of key', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const x25519 = generateKeyPairSync('x25519')
    for (const { publicKey } of [rsa, p384, x25519]) {
      assert.throws(() => isProof(spkiOf(publicKey), Buffer.alloc(64), TEXT), {
        code: 'MESSAGE_INVALID',
      })
    }
    assert.throws(() => isProof(Buffer.from('no key'), Buffer.alloc(64), TEXT), {
      code: 'MESSAGE_INVALID',
    })
  })

  it('are named by 43 characters', () => {
    assert.match(keyFingerprint(spkiOf(ed25519.publicKey)), /^[\w-]{43}$/)
  })
})
