/**
 * The fixed newstyle handshake, server's side, as a state machine over bytes:
 *
 *   flags ─▸ option ◂─▸ option data ─▸ done (GO, EXPORT_NAME) or over (ABORT, or what cannot go on)
 *                  ◂─▸ skipping the data of an option that is too long
 *
 * What a client may send before the end is bounded: the length of an option, and their number. How
 * long it may take is up to who owns the socket.
 */
import type { Export } from './block-device.ts'
import type { Negotiated } from './export-facts.ts'
import {
  encodeExportName,
  encodeGreeting,
  encodeInfos,
  encodeMetaContext,
  encodeOptionReply,
  encodeServer,
  hasMagic,
  OptionData,
} from './handshake-messages.ts'
import {
  BASE_ALLOCATION,
  BASE_ALLOCATION_ID,
  CLIENT_FLAG,
  OPTION,
  OPTION_MAGIC,
  REPLY,
  STRING_BYTES_MAX,
} from './protocol.ts'

/** An export's name and as many meta contexts as anybody ever asked for at once. */
const OPTION_BYTES_MAX: number = 4 * STRING_BYTES_MAX
/** Real clients need about six. */
const OPTIONS_MAX = 64

const CLIENT_FLAGS_BYTES = 4
const OPTION_HEADER_BYTES = 16

export type HandshakeOutcome =
  | {
      readonly kind: 'done'
      readonly export: Export
      readonly negotiated: Negotiated
      /** Bytes of the transmission phase that came already. */
      readonly early: Buffer
    }
  /** The connection is to be closed, once what was said has been sent. */
  | { readonly kind: 'over'; readonly reason: string }

type State = 'flags' | 'option' | 'option data' | 'skipping' | 'ended'

export class Handshake {
  readonly #exports: readonly Export[]
  readonly #send: (bytes: Buffer) => void
  #state: State = 'flags'
  #outcome: HandshakeOutcome | undefined
  #received: Buffer = Buffer.alloc(0)
  #sendsZeroes = true
  #options = 0
  #option = 0
  #optionBytes = 0
  #structuredReplies = false
  /** The export that base:allocation was asked for. */
  #contextOf: Export | undefined

  /** `send` gets everything the server says, the greeting at once. */
  constructor(exports: readonly Export[], send: (bytes: Buffer) => void) {
    this.#exports = exports
    this.#send = send
    send(encodeGreeting())
  }

  /** Takes what came. Returns the outcome when there is one; nothing may be given after that. */
  receive(bytes: Buffer): HandshakeOutcome | undefined {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes])
    while (this.#outcome === undefined && this.#step());
    return this.#outcome
  }

  /** Handles one message; returns false when more bytes are needed. */
  #step(): boolean {
    switch (this.#state) {
      case 'flags':
        return this.#take(CLIENT_FLAGS_BYTES, (bytes) => this.#onFlags(bytes.readUInt32BE()))
      case 'option':
        return this.#take(OPTION_HEADER_BYTES, (header) => this.#onOption(header))
      case 'option data':
        return this.#take(this.#optionBytes, (data) => this.#onOptionData(data))
      case 'skipping':
        return this.#skip()
      case 'ended':
        return false
    }
  }

  #take(lengthBytes: number, handle: (bytes: Buffer) => void): boolean {
    if (this.#received.length < lengthBytes) return false
    const bytes = this.#received.subarray(0, lengthBytes)
    this.#received = this.#received.subarray(lengthBytes)
    handle(bytes)
    return true
  }

  #skip(): boolean {
    const skipped = Math.min(this.#optionBytes, this.#received.length)
    this.#received = this.#received.subarray(skipped)
    this.#optionBytes -= skipped
    if (this.#optionBytes > 0) return false
    this.#state = 'option'
    this.#reply(REPLY.errorTooBig)
    return true
  }

  #onFlags(flags: number): void {
    if ((flags & ~(CLIENT_FLAG.fixedNewstyle | CLIENT_FLAG.noZeroes)) !== 0) {
      return this.#over(`client flags 0x${(flags >>> 0).toString(16)}`)
    }
    this.#sendsZeroes = (flags & CLIENT_FLAG.noZeroes) === 0
    this.#state = 'option'
  }

  #onOption(header: Buffer): void {
    if (!hasMagic(header, 0, OPTION_MAGIC)) return this.#over('no option where one was expected')
    this.#options += 1
    if (this.#options > OPTIONS_MAX) return this.#over(`more than ${OPTIONS_MAX} options`)
    this.#option = header.readUInt32BE(8)
    this.#optionBytes = header.readUInt32BE(12)
    this.#state = this.#optionBytes > OPTION_BYTES_MAX ? 'skipping' : 'option data'
  }

  #onOptionData(data: Buffer): void {
    this.#state = 'option'
    switch (this.#option) {
      case OPTION.exportName:
        return this.#onExportName(data.toString())
      case OPTION.abort:
        this.#reply(REPLY.ack)
        return this.#over('the client gave up')
      case OPTION.list:
        return this.#onList(data)
      case OPTION.info:
      case OPTION.go:
        return this.#onInfo(new OptionData(data))
      case OPTION.structuredReply:
        return this.#onStructuredReply(data)
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        return this.#onMetaContext(new OptionData(data))
      default:
        return this.#reply(REPLY.errorUnsupported)
    }
  }

  /** The one option to which no error can be answered. */
  #onExportName(name: string): void {
    const found = this.#find(name)
    if (found === undefined) return this.#over(`no export ${JSON.stringify(name)}`)
    this.#send(encodeExportName(found, this.#structuredReplies, this.#sendsZeroes))
    this.#done(found)
  }

  #onList(data: Buffer): void {
    if (data.length > 0) return this.#reply(REPLY.errorInvalid)
    for (const each of this.#exports) this.#reply(REPLY.server, encodeServer(each))
    this.#reply(REPLY.ack)
  }

  #onInfo(data: OptionData): void {
    const name = data.string()
    const count = data.uint16()
    const asked = new Set(Array.from({ length: count ?? 0 }, () => data.uint16() ?? -1))
    if (name === undefined || count === undefined || asked.has(-1) || !data.atEnd) {
      return this.#reply(REPLY.errorInvalid)
    }
    const found = this.#find(name)
    if (found === undefined) return this.#reply(REPLY.errorUnknown)
    for (const info of encodeInfos(found, this.#structuredReplies, asked)) {
      this.#reply(REPLY.info, info)
    }
    this.#reply(REPLY.ack)
    if (this.#option === OPTION.go) this.#done(found)
  }

  #onStructuredReply(data: Buffer): void {
    if (data.length > 0) return this.#reply(REPLY.errorInvalid)
    this.#structuredReplies = true
    this.#reply(REPLY.ack)
  }

  #onMetaContext(data: OptionData): void {
    const setting = this.#option === OPTION.setMetaContext
    if (setting) this.#contextOf = undefined
    const name = data.string()
    const count = data.uint32()
    // A query takes at least its length.
    const plausible = count !== undefined && count <= OPTION_BYTES_MAX / 4
    const queries = Array.from({ length: plausible ? count : 0 }, () => data.string())
    const whole = name !== undefined && plausible && data.atEnd && !queries.includes(undefined)
    if (!whole || (setting && !this.#structuredReplies)) return this.#reply(REPLY.errorInvalid)
    const found = this.#find(name)
    if (found === undefined) return this.#reply(REPLY.errorUnknown)
    const listed = !setting && (count === 0 || queries.includes('base:'))
    if (listed || queries.includes(BASE_ALLOCATION)) {
      if (setting) this.#contextOf = found
      const id = setting ? BASE_ALLOCATION_ID : 0
      this.#reply(REPLY.metaContext, encodeMetaContext(id, BASE_ALLOCATION))
    }
    this.#reply(REPLY.ack)
  }

  /** The empty name asks for the default export, which is the first. */
  #find(name: string): Export | undefined {
    const found = this.#exports.find((each) => each.name === name)
    return found ?? (name === '' ? this.#exports[0] : undefined)
  }

  #reply(type: number, data?: Buffer): void {
    this.#send(encodeOptionReply(this.#option, type, data))
  }

  #done(found: Export): void {
    this.#state = 'ended'
    const structuredReplies = this.#structuredReplies
    // A context that was set for another export does not count.
    const negotiated = { structuredReplies, baseAllocation: this.#contextOf === found }
    this.#outcome = { kind: 'done', export: found, negotiated, early: this.#received }
  }

  #over(reason: string): void {
    this.#state = 'ended'
    this.#outcome = { kind: 'over', reason }
  }
}
