/** The two commands of a TPM 2.0 that a device key takes, and their responses (TCG, parts 2 and 3). Pure. */

/** A TPM's own buffer (TPM2_MAX_RESPONSE_SIZE of the PC client profile). */
export const TPM_RESPONSE_BYTES_MAX = 4096

const HEADER_BYTES = 10
const TAG_SESSIONS = 0x8002
const CC_CREATE_PRIMARY = 0x0131
const CC_SIGN = 0x015d
const RH_OWNER = 0x4000_0001
const RH_NULL = 0x4000_0007
/** A password for an authorization; here always the empty one. */
const RS_PASSWORD = 0x4000_0009
const ST_HASHCHECK = 0x8024

const ALG = { sha256: 0x000b, null: 0x0010, ecdsa: 0x0018, ecc: 0x0023 } as const
const CURVE_P256 = 0x0003
const COORDINATE_BYTES = 32

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign: it is made here, and stays here. */
const ATTRIBUTES = 0x0004_0472

/** Another text here would be another key. */
const UNIQUE = Buffer.from('bootwire device key 1'.padEnd(COORDINATE_BYTES, '\0'))

/** SubjectPublicKeyInfo of P-256 up to the coordinates (RFC 5480). */
const SPKI_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')

export function createPrimaryCommand(): Buffer {
  const sensitive = Buffer.concat([u16(0), u16(0)])
  const template = Buffer.concat([
    u16(ALG.ecc),
    u16(ALG.sha256),
    u32(ATTRIBUTES),
    sized(Buffer.alloc(0)),
    u16(ALG.null),
    u16(ALG.ecdsa),
    u16(ALG.sha256),
    u16(CURVE_P256),
    u16(ALG.null),
    sized(UNIQUE),
    sized(Buffer.alloc(0)),
  ])
  return command(CC_CREATE_PRIMARY, RH_OWNER, [
    sized(sensitive),
    sized(template),
    sized(Buffer.alloc(0)),
    u32(0),
  ])
}

/** Signs a SHA-256. */
export function signCommand(handle: number, digest: Uint8Array): Buffer {
  const ticket = Buffer.concat([u16(ST_HASHCHECK), u32(RH_NULL), sized(Buffer.alloc(0))])
  return command(CC_SIGN, handle, [sized(digest), u16(ALG.ecdsa), u16(ALG.sha256), ticket])
}

/** @throws an error with the response code */
export function parseCreatePrimary(response: Buffer): {
  readonly handle: number
  readonly spki: Uint8Array
} {
  const reader = new Reader(checked(response, 'make a key'))
  const handle = reader.u32()
  reader.u32() // bytes of the parameters
  const outPublic = new Reader(reader.sized())
  outPublic.skip(2 + 2 + 4)
  outPublic.sized()
  outPublic.skip(2 + 2 + 2 + 2 + 2)
  const point = [outPublic.sized(), outPublic.sized()].map(padded)
  return { handle, spki: Buffer.concat([SPKI_PREFIX, ...point]) }
}

/** Returns r and s of 32 bytes each (IEEE P1363). @throws an error with the response code */
export function parseSign(response: Buffer): Uint8Array {
  const reader = new Reader(checked(response, 'sign'))
  reader.u32() // bytes of the parameters
  reader.skip(2 + 2)
  return Buffer.concat([reader.sized(), reader.sized()].map(padded))
}

function command(code: number, handle: number, parameters: readonly Buffer[]): Buffer {
  const password = Buffer.concat([u32(RS_PASSWORD), u16(0), Buffer.of(0), u16(0)])
  const body = Buffer.concat([u32(handle), u32(password.length), password, ...parameters])
  return Buffer.concat([u16(TAG_SESSIONS), u32(HEADER_BYTES + body.length), u32(code), body])
}

function checked(response: Buffer, what: string): Buffer {
  const code = response.length < HEADER_BYTES ? undefined : response.readUInt32BE(6)
  if (code === 0) return response.subarray(HEADER_BYTES)
  const said = code === undefined ? 'nothing' : `response code 0x${code.toString(16)}`
  throw new Error(`The TPM does not ${what}: it answered ${said}`)
}

/** A TPM may leave zeros out at the beginning of a number. */
function padded(number: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(COORDINATE_BYTES), number]).subarray(-COORDINATE_BYTES)
}

function sized(bytes: Uint8Array): Buffer {
  return Buffer.concat([u16(bytes.length), bytes])
}

function u16(value: number): Buffer {
  return Buffer.of(value >>> 8, value & 0xff)
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

/** @throws RangeError where the response ends before it should */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  u32(): number {
    const value = this.#bytes.readUInt32BE(this.#at)
    this.#at += 4
    return value
  }

  skip(bytes: number): void {
    this.#at += bytes
  }

  sized(): Buffer {
    const length = this.#bytes.readUInt16BE(this.#at)
    const begin = this.#at + 2
    if (begin + length > this.#bytes.length)
      throw new RangeError('The response of the TPM is cut off')
    this.#at = begin + length
    return this.#bytes.subarray(begin, this.#at)
  }
}
