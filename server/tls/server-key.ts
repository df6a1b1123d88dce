/**
 * The server's key and self-signed certificate: `key.pem` (mode 0600) and `cert.pem` in the state
 * folder, made at first start. Clients trust the key by its pin, never the certificate's names or
 * dates (PROTOCOL.md §1), so the certificate only wraps the key.
 */
import { createHash, createHmac, createPrivateKey, createPublicKey } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { BootwireError } from '#shared/errors.ts'
import { spkiPin } from '#shared/identity/key-pin.ts'

export interface ServerKey {
  readonly keyPem: string
  readonly certPem: string
  /** SHA-256 of the SubjectPublicKeyInfo, base64url without padding (43 characters). */
  readonly pin: string
}

/** Nobody looks at the date; 100 years keep those who do quiet. */
const VALID_YEARS = 100

/** Loads the key, or makes it when there is none. @throws {BootwireError} STATE_UNREADABLE */
export async function ensureServerKey(stateFolder: string): Promise<ServerKey> {
  const keyPath = join(stateFolder, 'key.pem')
  const certPath = join(stateFolder, 'cert.pem')
  const keyPem = await readIfThere(keyPath)
  const certPem = await readIfThere(certPath)
  // The key is written last: without it, a certificate is the rest of a first start that was killed.
  if (keyPem === undefined) return await createServerKey(keyPath, certPath)
  if (certPem === undefined) throw unreadable(certPath, 'it is missing beside its key')
  return { keyPem, certPem, pin: checkedPin(keyPem, certPem, certPath) }
}

/** What only this server knows, for codes that machines show. */
export function enrolSecret({ keyPem }: ServerKey): Buffer {
  return createHmac('sha256', keyPem).update('bootwire enrolment codes').digest()
}

async function createServerKey(keyPath: string, certPath: string): Promise<ServerKey> {
  const notAfterDate = new Date()
  notAfterDate.setFullYear(notAfterDate.getFullYear() + VALID_YEARS)
  const made = await generate([{ name: 'commonName', value: 'bootwire' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notAfterDate,
  })
  await writeDurably(certPath, made.cert, 0o644)
  await writeDurably(keyPath, made.private, 0o600)
  return { keyPem: made.private, certPem: made.cert, pin: spkiPin(made.cert) }
}

function checkedPin(keyPem: string, certPem: string, certPath: string): string {
  try {
    const ofKey = createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' })
    const pin = spkiPin(certPem)
    if (createHash('sha256').update(ofKey).digest('base64url') === pin) return pin
  } catch (cause) {
    throw unreadable(certPath, 'it or its key is damaged', cause)
  }
  throw unreadable(certPath, 'it belongs to another key')
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw unreadable(path, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/** Written beside and renamed, so that a crash leaves the old file or the new one. */
async function writeDurably(path: string, text: string, mode: number): Promise<void> {
  const temporaryPath = `${path}.new`
  const file = await open(temporaryPath, 'w', mode)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporaryPath, path)
}

function unreadable(path: string, why: string, cause?: unknown): BootwireError {
  return new BootwireError('STATE_UNREADABLE', `Cannot use "${path}": ${why}`, { cause })
}
