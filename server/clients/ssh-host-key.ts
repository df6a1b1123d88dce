/** An SSH host key, in the form in which sshd reads it: OpenSSH's PROTOCOL.key, unencrypted. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { SshHostKeyRecord } from '#server/state/records.ts'

const TYPE = 'ssh-ed25519'
const MAGIC = Buffer.from('openssh-key-v1\0')
/** The private part is padded to this, the block of no cipher. */
const BLOCK_BYTES = 8
const LINE_LENGTH = 70

/** Ed25519, which every OpenSSH since 6.5 (2014) knows. */
export function makeSshHostKey(comment: string): SshHostKeyRecord {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const publicBytes = Buffer.from(jwk.x ?? '', 'base64url')
  const seed = Buffer.from(jwk.d ?? '', 'base64url')
  const publicBlob = Buffer.concat([field(TYPE), field(publicBytes)])
  const check = randomBytes(4)
  const secret = Buffer.concat([
    check,
    check,
    publicBlob,
    field(Buffer.concat([seed, publicBytes])),
    field(comment),
  ])
  const padding = Buffer.from(
    Array.from({ length: -secret.length & (BLOCK_BYTES - 1) }, (_, index) => index + 1),
  )
  const blob = Buffer.concat([
    MAGIC,
    field('none'),
    field('none'),
    field(''),
    number(1),
    field(publicBlob),
    field(Buffer.concat([secret, padding])),
  ])
  return {
    privateKey: armored(blob),
    publicKey: `${TYPE} ${publicBlob.toString('base64')} ${comment}\n`,
  }
}

function armored(blob: Buffer): string {
  const lines = blob.toString('base64').match(new RegExp(`.{1,${LINE_LENGTH}}`, 'g')) ?? []
  const label = 'OPENSSH PRIVATE KEY'
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** RFC 4251 §5: string. */
function field(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([number(bytes.length), bytes])
}

/** RFC 4251 §5: uint32. */
function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
