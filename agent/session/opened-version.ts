/** What a server opened, taken at its word only as far as its key has signed it. */
import { BootwireError } from '#shared/errors.ts'
import { type VersionRoot, verifyVersionRoot } from '#shared/manifest/version-root.ts'
import type { Opened } from '#shared/wire/messages.ts'

/**
 * Returns the root of the version, verified against the pin.
 * @throws {BootwireError} MANIFEST_UNTRUSTED, MANIFEST_INVALID
 */
export function verifiedRoot(opened: Opened, pin: string): VersionRoot {
  const { manifest, versionId, sizeBytes } = opened
  const signed = {
    record: Buffer.from(manifest.record, 'base64'),
    signature: Buffer.from(manifest.signature, 'base64'),
    signerKey: Buffer.from(manifest.signerKey, 'base64'),
  }
  const root = verifyVersionRoot(signed, versionId, pin)
  if (root.sizeBytes === sizeBytes) return root
  throw new BootwireError(
    'MANIFEST_INVALID',
    `Cannot use version ${versionId}: the server says it has ${sizeBytes} bytes, its root ${root.sizeBytes}`,
  )
}
