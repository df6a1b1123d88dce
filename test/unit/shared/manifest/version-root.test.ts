import assert from 'node:assert/strict'
import { generateKeyPairSync, hash } from 'node:crypto'
import { describe, it } from 'node:test'
import { BLOCK_BYTES, VDISK_BLOCKS_MAX } from '#shared/manifest/tree-shape.ts'
import {
  decodeVersionRoot,
  encodeVersionRoot,
  type SignedRoot,
  signVersionRoot,
  verifyVersionRoot,
  versionIdOf,
} from '#shared/manifest/version-root.ts'
import { ROOT } from './manifest-vectors.ts'

function createKey() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const signerKey = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  return {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    signerKey,
    pin: hash('sha256', signerKey, 'base64url'),
  }
}

const key = createKey()
const record = encodeVersionRoot(ROOT)
const versionId = versionIdOf(record)
const signed = signVersionRoot(record, key.keyPem, key.signerKey)

const untrusted = (message: RegExp) => ({ code: 'MANIFEST_UNTRUSTED', message })
const invalid = (message: RegExp) => ({ code: 'MANIFEST_INVALID', message })

const changed = (bytes: Uint8Array, at: number) => bytes.with(at, (bytes[at] ?? 0) ^ 1)

describe('verifyVersionRoot', () => {
  it('gives the root that the pinned key has signed', () => {
    const root = verifyVersionRoot(signed, versionId, key.pin)
    assert.deepEqual({ ...root, rootHash: Buffer.from(root.rootHash) }, ROOT)
  })

  it('refuses a record of another version', () => {
    const other = encodeVersionRoot({ ...ROOT, sizeBytes: 4096 })
    const moved = signVersionRoot(other, key.keyPem, key.signerKey)
    const expected = untrusted(/the record is that of version/)
    assert.throws(() => verifyVersionRoot(moved, versionId, key.pin), expected)
  })

  it('refuses another key, also one that signed rightly', () => {
    const other = createKey()
    const foreign = signVersionRoot(record, other.keyPem, other.signerKey)
    assert.throws(() => verifyVersionRoot(foreign, versionId, key.pin), untrusted(/signed it, exp/))
    // The pinned key, and the signature of another.
    const mixed: SignedRoot = { ...foreign, signerKey: key.signerKey }
    assert.throws(() => verifyVersionRoot(mixed, versionId, key.pin), untrusted(/is wrong/))
  })

  it('refuses a signature with any byte changed, cut or lengthened', () => {
    const { signature } = signed
    for (let at = 0; at < signature.length; at += 1) {
      const bad = { ...signed, signature: changed(signature, at) }
      assert.throws(() => verifyVersionRoot(bad, versionId, key.pin), untrusted(/is wrong/))
    }
    for (const bad of [
      new Uint8Array(0),
      signature.subarray(1),
      Buffer.concat([signature, record]),
    ]) {
      const root = { ...signed, signature: bad }
      assert.throws(() => verifyVersionRoot(root, versionId, key.pin), untrusted(/is wrong/))
    }
  })

  it('refuses a key that is none, whatever its pin', () => {
    const signerKey = Buffer.from('no key')
    const pin = hash('sha256', signerKey, 'base64url')
    assert.throws(() => verifyVersionRoot({ ...signed, signerKey }, versionId, pin), {
      code: 'MANIFEST_UNTRUSTED',
    })
  })

  it('refuses a signed record that makes no sense', () => {
    const bad = changed(record, 17)
    const root = signVersionRoot(bad, key.keyPem, key.signerKey)
    const expected = invalid(/its tree has another shape/)
    assert.throws(() => verifyVersionRoot(root, versionIdOf(bad), key.pin), expected)
  })
})

describe('decodeVersionRoot', () => {
  it('refuses other lengths, formats, sizes and shapes', () => {
    assert.throws(() => decodeVersionRoot(record.subarray(1)), invalid(/it has 63 bytes/))
    assert.throws(() => decodeVersionRoot(changed(record, 7)), invalid(/its format/))
    for (const at of [16, 17, 18, 19]) {
      assert.throws(() => decodeVersionRoot(changed(record, at)), invalid(/another shape/))
    }
    const limit = VDISK_BLOCKS_MAX * BLOCK_BYTES
    assert.equal(
      decodeVersionRoot(encodeVersionRoot({ ...ROOT, sizeBytes: limit })).sizeBytes,
      limit,
    )
    for (const sizeBytes of [0, limit + 1]) {
      const bad = encodeVersionRoot({ ...ROOT, sizeBytes })
      assert.throws(() => decodeVersionRoot(bad), invalid(/the vDisk has/))
    }
    assert.throws(() => decodeVersionRoot(record.with(8, 0xff)), invalid(/the vDisk has/))
  })

  it('takes any parameters of the cut: they mean nothing to a reader', () => {
    assert.equal(decodeVersionRoot(record.with(20, 0)).cut.minBlocks, 0)
  })
})
