/**
 * The code that a machine shows while nobody has vouched for its key, and that an administrator compares:
 * eight letters without vowels, so that they are no words and no digits (RFC 8628 §6.1), `WDJB-MJHT`.
 */
import { createHmac } from 'node:crypto'

const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ'
const LENGTH = 8
const GROUP = 4

const CODE = /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/

/** Of 20^8 (34 bits) one: the same for this key and boot, another one for all others. */
export function enrolCode(secret: Uint8Array, fingerprint: string, bootId: string): string {
  const digest = createHmac('sha256', secret).update(`${fingerprint} ${bootId}`).digest()
  let number = digest.readBigUInt64BE()
  let letters = ''
  for (let at = 0; at < LENGTH; at += 1) {
    letters += LETTERS[Number(number % BigInt(LETTERS.length))] ?? ''
    number /= BigInt(LETTERS.length)
  }
  return `${letters.slice(0, GROUP)}-${letters.slice(GROUP)}`
}

/** Returns the code as it is shown, whatever case and dashes somebody typed; undefined for what is none. */
export function parseEnrolCode(text: string): string | undefined {
  const letters = text.toUpperCase().replaceAll(/[\s-]/g, '')
  const code = `${letters.slice(0, GROUP)}-${letters.slice(GROUP)}`
  return CODE.test(code) ? code : undefined
}
