/** How a server's key is named: what a boot script carries and an agent compares (PROTOCOL.md §1). */
import { createHash, X509Certificate } from 'node:crypto'

/** A pin, or several of which each will do. */
export type Pins = string | ReadonlySet<string>

export function isPinned(pins: Pins, pin: string): boolean {
  return typeof pins === 'string' ? pins === pin : pins.has(pin)
}

/** For messages. */
export function formatPins(pins: Pins): string {
  return typeof pins === 'string' ? pins : [...pins].join(' or ')
}

/**
 * Returns the SHA-256 of the certificate's SubjectPublicKeyInfo, base64url without padding
 * (43 characters); `certificate` in PEM or DER.
 */
export function spkiPin(certificate: string | Uint8Array): string {
  const spki = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' })
  return createHash('sha256').update(spki).digest('base64url')
}
