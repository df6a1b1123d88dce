/** The file `root` of a version: its root record and who signed it (FORMAT.md). */
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { ROOT_RECORD_BYTES, type SignedRoot, versionIdOf } from '#shared/manifest/version-root.ts'

/** Far more than the file has with any key. */
export const ROOT_FILE_BYTES_MAX = 4096

/** record, length u16 and signature, length u16 and key (SPKI), CRC-32 of all before */
export function encodeRootFile({ record, signature, signerKey }: SignedRoot): Uint8Array {
  const bytes = Buffer.alloc(record.length + 2 + signature.length + 2 + signerKey.length + 4)
  bytes.set(record)
  let at = record.length
  for (const part of [signature, signerKey]) {
    bytes.writeUInt16BE(part.length, at)
    bytes.set(part, at + 2)
    at += 2 + part.length
  }
  bytes.writeUInt32BE(crc32(bytes.subarray(0, at)), at)
  return bytes
}

/** @throws {BootwireError} STATE_UNREADABLE naming the path */
export function decodeRootFile(file: Uint8Array, versionId: string, path: string): SignedRoot {
  const refuse = (why: string) =>
    new BootwireError('STATE_UNREADABLE', `Cannot read "${path}": ${why}`)
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.length)
  const end = bytes.length - 4
  if (end < ROOT_RECORD_BYTES + 4) throw refuse('it is too short')
  if (crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) {
    throw refuse('its checksum does not fit')
  }
  const signatureAt = ROOT_RECORD_BYTES + 2
  const keyAt = signatureAt + bytes.readUInt16BE(ROOT_RECORD_BYTES) + 2
  const record = bytes.subarray(0, ROOT_RECORD_BYTES)
  if (keyAt > end || keyAt + bytes.readUInt16BE(keyAt - 2) !== end) {
    throw refuse('its parts do not fit')
  }
  if (versionIdOf(record) !== versionId) throw refuse('it belongs to another version')
  return {
    record,
    signature: bytes.subarray(signatureAt, keyAt - 2),
    signerKey: bytes.subarray(keyAt, end),
  }
}
