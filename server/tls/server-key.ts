/**
 * The server's key and self-signed certificate: `key.pem` (mode 0600) and `cert.pem` in the state
 * folder, made at first start. Clients trust the key by its pin, never the certificate's names or
 * dates (PROTOCOL.md §1), so the certificate only wraps the key.
 */
import { createHash, createHmac, createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import * as v from 'valibot'
import { BootwireError } from '#shared/errors.ts'
import {
  KEY_CHAIN_MAX,
  type KeyChain,
  keyChainSchema,
  signRollOver,
} from '#shared/identity/key-chain.ts'
import { spkiPin } from '#shared/identity/key-pin.ts'

export interface ServerKey {
  /** What led to this key, oldest first. */
  readonly chain: KeyChain
  readonly keyPem: string
  readonly certPem: string
  /** SHA-256 of the SubjectPublicKeyInfo, base64url without padding (43 characters). */
  readonly pin: string
}

/** Nobody looks at the date; 100 years keep those who do quiet. */
const VALID_YEARS = 100

/** Loads the key, or makes it when there is none. @throws {BootwireError} STATE_UNREADABLE */
export async function ensureServerKey(stateFolder: string): Promise<ServerKey> {
  await finishRollOver(stateFolder)
  const chain = await readChain(stateFolder)
  return { ...(await ensureKeyPair(stateFolder)), chain }
}

type KeyPair = Omit<ServerKey, 'chain'>

async function ensureKeyPair(folder: string): Promise<KeyPair> {
  const keyPath = join(folder, 'key.pem')
  const certPath = join(folder, 'cert.pem')
  const keyPem = await readIfThere(keyPath)
  const certPem = await readIfThere(certPath)
  // The key is written last: without it, a certificate is the rest of a first start that was killed.
  if (keyPem === undefined) return await createServerKey(keyPath, certPath)
  if (certPem === undefined) throw unreadable(certPath, 'it is missing beside its key')
  return { keyPem, certPem, pin: checkedPin(keyPem, certPem, certPath) }
}

/** What is to become the key at the next start. */
const NEXT_FOLDER = 'next-key'
const CHAIN_FILE = 'key-chain.json'

/**
 * Makes the key that this server has from its next start on, and says so by the one it has now. Returns its
 * pin. Calling it again before that start makes no other one.
 * @throws {BootwireError} STATE_UNREADABLE
 */
export async function prepareRollOver(stateFolder: string, now: ServerKey): Promise<string> {
  const folder = join(stateFolder, NEXT_FOLDER)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const next = await ensureKeyPair(folder)
  const statement = signRollOver(now.keyPem, next.pin)
  const others = now.chain.filter(({ from }) => from !== statement.from)
  const chain = [...others, statement].slice(-KEY_CHAIN_MAX)
  // Until it is there the pair is none that anybody was told of.
  await writeDurably(join(stateFolder, CHAIN_FILE), JSON.stringify(chain), 0o644)
  return next.pin
}

/** Puts the next pair in its place, also where that was broken off. */
async function finishRollOver(stateFolder: string): Promise<void> {
  const folder = join(stateFolder, NEXT_FOLDER)
  const key = await readIfThere(join(folder, 'key.pem'))
  if (key === undefined) return
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const pin = createHash('sha256').update(spki).digest('base64url')
  if (!(await readChain(stateFolder)).some(({ to }) => to === pin)) return
  // The key last: as long as it is there, this is done again.
  for (const name of ['cert.pem', 'key.pem']) {
    await rename(join(folder, name), join(stateFolder, name)).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    })
  }
}

/** @throws {BootwireError} STATE_UNREADABLE */
async function readChain(stateFolder: string): Promise<KeyChain> {
  const path = join(stateFolder, CHAIN_FILE)
  const text = await readIfThere(path)
  if (text === undefined) return []
  try {
    return v.parse(keyChainSchema, JSON.parse(text))
  } catch (cause) {
    throw unreadable(path, 'it is damaged', cause)
  }
}

/** What only this server knows, for codes that machines show. */
export function enrolSecret({ keyPem }: ServerKey): Buffer {
  return createHmac('sha256', keyPem).update('bootwire enrolment codes').digest()
}

async function createServerKey(keyPath: string, certPath: string): Promise<KeyPair> {
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
