/** Signs the root records of versions with the server's key, which agents know by its pin. */
import { hash, X509Certificate } from 'node:crypto'
import {
  type SignedRoot,
  signVersionRoot,
  verifyVersionRoot,
  versionIdOf,
} from '#shared/manifest/version-root.ts'
import type { ServerKey } from './server-key.ts'

/**
 * Returns roots that a former key of this server has signed with the word of its present one, and all others
 * as they are.
 */
export function versionResigner(key: ServerKey): (signed: SignedRoot) => SignedRoot {
  const sign = versionSigner(key)
  const former = new Set(
    key.chain.map(({ from }) => hash('sha256', Buffer.from(from, 'base64'), 'base64url')),
  )
  return (signed) => {
    const signer = hash('sha256', signed.signerKey, 'base64url')
    if (signer === key.pin || !former.has(signer)) return signed
    verifyVersionRoot(signed, versionIdOf(signed.record), signer)
    return sign(signed.record)
  }
}

export function versionSigner({ keyPem, certPem }: ServerKey): (record: Uint8Array) => SignedRoot {
  const { publicKey } = new X509Certificate(certPem)
  const signerKey = publicKey.export({ type: 'spki', format: 'der' })
  return (record) => signVersionRoot(record, keyPem, signerKey)
}
