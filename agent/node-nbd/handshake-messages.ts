/** Bytes of the handshake: what the server says, and the fields of what clients say. */
import type { Export } from './block-device.ts'
import { exportFacts, transmissionFlags } from './export-facts.ts'
import { HANDSHAKE_FLAG, INFO, OPTION_MAGIC, OPTION_REPLY_MAGIC, SERVER_MAGIC } from './protocol.ts'

/** Zeros at the end of the answer to EXPORT_NAME, for clients that did not waive them. */
const EXPORT_NAME_ZEROES = 124

type Magic = readonly [number, number]

export function encodeGreeting(): Buffer {
  const greeting = Buffer.alloc(18)
  putMagic(greeting, 0, SERVER_MAGIC)
  putMagic(greeting, 8, OPTION_MAGIC)
  greeting.writeUInt16BE(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes, 16)
  return greeting
}

export function encodeOptionReply(
  option: number,
  type: number,
  data: Buffer = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(20)
  putMagic(header, 0, OPTION_REPLY_MAGIC)
  header.writeUInt32BE(option, 8)
  header.writeUInt32BE(type, 12)
  header.writeUInt32BE(data.length, 16)
  return Buffer.concat([header, data])
}

/** The answer to EXPORT_NAME, which is no option reply. */
export function encodeExportName(it: Export, structuredReplies: boolean, zeroes: boolean): Buffer {
  return Buffer.concat([
    sizeAndFlags(it, structuredReplies),
    Buffer.alloc(zeroes ? EXPORT_NAME_ZEROES : 0),
  ])
}

/** One export of the answer to LIST. */
export function encodeServer({ name, description }: Export): Buffer {
  return Buffer.concat([lengthPrefixed(name), Buffer.from(description)])
}

/** The data of each INFO reply to INFO and GO. Name and description only when asked for. */
export function encodeInfos(
  it: Export,
  structuredReplies: boolean,
  asked: ReadonlySet<number>,
): Buffer[] {
  const infos = [
    info(INFO.export, sizeAndFlags(it, structuredReplies)),
    info(INFO.blockSize, blockSizes(it)),
  ]
  if (asked.has(INFO.name)) infos.push(info(INFO.name, Buffer.from(it.name)))
  if (asked.has(INFO.description)) infos.push(info(INFO.description, Buffer.from(it.description)))
  return infos
}

export function encodeMetaContext(id: number, name: string): Buffer {
  return Buffer.concat([uint32(id), Buffer.from(name)])
}

export function hasMagic(bytes: Buffer, at: number, [high, low]: Magic): boolean {
  return bytes.readUInt32BE(at) === high && bytes.readUInt32BE(at + 4) === low
}

/** Reads the data of one option from front to end; every read is refused beyond its end. */
export class OptionData {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  uint16(): number | undefined {
    return this.#take(2)?.readUInt16BE()
  }

  uint32(): number | undefined {
    return this.#take(4)?.readUInt32BE()
  }

  /** A string behind its 32-bit length. */
  string(): string | undefined {
    const length = this.uint32()
    return length === undefined ? undefined : this.#take(length)?.toString()
  }

  #take(length: number): Buffer | undefined {
    if (length > this.#bytes.length - this.#at) return undefined
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

function sizeAndFlags(it: Export, structuredReplies: boolean): Buffer {
  const bytes = Buffer.alloc(10)
  bytes.writeBigUInt64BE(BigInt(it.sizeBytes), 0)
  bytes.writeUInt16BE(transmissionFlags(exportFacts(it), structuredReplies), 8)
  return bytes
}

function blockSizes(it: Export): Buffer {
  return Buffer.concat(
    [it.minimumBlockBytes, it.preferredBlockBytes, it.maximumBlockBytes].map(uint32),
  )
}

function info(type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(2)
  header.writeUInt16BE(type)
  return Buffer.concat([header, data])
}

function lengthPrefixed(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([uint32(bytes.length), bytes])
}

function putMagic(target: Buffer, at: number, [high, low]: Magic): void {
  target.writeUInt32BE(high, at)
  target.writeUInt32BE(low, at + 4)
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
