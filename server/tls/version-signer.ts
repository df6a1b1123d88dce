/** Signs the root records of versions with the server's key, which agents know by its pin. */
import { X509Certificate } from 'node:crypto'
import { type SignedRoot, signVersionRoot } from '#shared/manifest/version-root.ts'
import type { ServerKey } from './server-key.ts'

export function versionSigner({ keyPem, certPem }: ServerKey): (record: Uint8Array) => SignedRoot {
  const { publicKey } = new X509Certificate(certPem)
  const signerKey = publicKey.export({ type: 'spki', format: 'der' })
  return (record) => signVersionRoot(record, keyPem, signerKey)
}
