/** What a server opened, taken at its word only as far as its key has signed it. */
import { hash } from 'node:crypto'
import { BootwireError } from '#shared/errors.ts'
import type { Pins } from '#shared/identity/key-pin.ts'
import { type VersionRoot, verifyVersionRoot } from '#shared/manifest/version-root.ts'
import type { Opened } from '#shared/wire/messages.ts'

/** Pin of the key that has signed it. */
export function signerOf({ manifest }: Opened): string {
  return hash('sha256', Buffer.from(manifest.signerKey, 'base64'), 'base64url')
}

/**
 * Returns the root of the version, verified against the pins.
 * @throws {BootwireError} MANIFEST_UNTRUSTED, MANIFEST_INVALID
 */
export function verifiedRoot(opened: Opened, pins: Pins): VersionRoot {
  const { manifest, versionId, sizeBytes } = opened
  const signed = {
    record: Buffer.from(manifest.record, 'base64'),
    signature: Buffer.from(manifest.signature, 'base64'),
    signerKey: Buffer.from(manifest.signerKey, 'base64'),
  }
  const root = verifyVersionRoot(signed, versionId, pins)
  if (root.sizeBytes === sizeBytes) return root
  throw new BootwireError(
    'MANIFEST_INVALID',
    `Cannot use version ${versionId}: the server says it has ${sizeBytes} bytes, its root ${root.sizeBytes}`,
  )
}
