/**
 * One file on its way to one TFTP client: which packets go out when what comes in. Neither sockets nor
 * clocks: whoever holds it sends what it returns, and calls `timeout` when nothing came for `timeoutMs`.
 *
 * Blocks go in windows (RFC 7440); with a window of one this is plain RFC 1350. Block numbers have 16 bits on
 * the wire and go on from 0 after 65535.
 */
import { encodeData, encodeOptionAck } from './tftp-message.ts'

/** RFC 1350 §2. */
const BLOCK_BYTES_DEFAULT = 512
/** RFC 2348. */
const BLOCK_BYTES_MIN = 8
/** What fits into an Ethernet frame of 1500 bytes, with the headers of IPv4, UDP and TFTP. */
const BLOCK_BYTES_MAX = 1468
/** OVMF asks for 4; 64 blocks are 90 KiB, which a network card's ring holds. */
const WINDOW_BLOCKS_MAX = 64
const TIMEOUT_SECONDS_DEFAULT = 1
const TIMEOUT_SECONDS_MAX = 255
/** RFC 2349. */
const TRIES = 6
/** Whoever has never answered may be a stranger whose address somebody used. */
const FIRST_TRIES = 4

export type TransferStep =
  | { readonly state: 'going'; readonly packets: readonly Buffer[] }
  | { readonly state: 'done' }
  | { readonly state: 'given-up' }

const NOTHING: TransferStep = { state: 'going', packets: [] }

export class TftpTransfer {
  readonly timeoutMs: number
  readonly blockBytes: number
  readonly windowBlocks: number
  readonly #file: Uint8Array
  readonly #optionAck: Buffer | undefined
  /** The last block is shorter than the others, if need be empty. */
  readonly #lastBlock: number
  /** Block that the client has, and all before; −1 before it has acknowledged the options. */
  #acked: number
  #tries = 0
  #isResent = false

  constructor(file: Uint8Array, options: ReadonlyMap<string, string>) {
    this.#file = file
    const agreed = agree(options, file.length)
    this.blockBytes = agreed.get('blksize') ?? BLOCK_BYTES_DEFAULT
    this.windowBlocks = agreed.get('windowsize') ?? 1
    this.timeoutMs = (agreed.get('timeout') ?? TIMEOUT_SECONDS_DEFAULT) * 1000
    this.#lastBlock = Math.floor(file.length / this.blockBytes) + 1
    this.#optionAck = agreed.size === 0 ? undefined : encodeOptionAck(agreed)
    this.#acked = agreed.size === 0 ? 0 : -1
  }

  /** True before the client has answered anything: it may ask once more. */
  get isUnanswered(): boolean {
    return this.#acked === (this.#optionAck === undefined ? 0 : -1)
  }

  /** The first packets, or those that the client must have missed. */
  packets(): readonly Buffer[] {
    if (this.#acked < 0) return this.#optionAck === undefined ? [] : [this.#optionAck]
    const end = Math.min(this.#acked + this.windowBlocks, this.#lastBlock)
    const packets: Buffer[] = []
    for (let block = this.#acked + 1; block <= end; block += 1) {
      const begin = (block - 1) * this.blockBytes
      packets.push(encodeData(block, this.#file.subarray(begin, begin + this.blockBytes)))
    }
    return packets
  }

  acknowledge(number: number): TransferStep {
    const block = this.#blockOf(number)
    if (block === undefined) return NOTHING
    if (block === this.#acked) return this.#missed()
    this.#acked = block
    this.#tries = 0
    this.#isResent = false
    return block >= this.#lastBlock ? { state: 'done' } : this.#going()
  }

  timeout(): TransferStep {
    this.#tries += 1
    if (this.#tries >= (this.isUnanswered ? FIRST_TRIES : TRIES)) return { state: 'given-up' }
    return this.#going()
  }

  #going(): TransferStep {
    return { state: 'going', packets: this.packets() }
  }

  /**
   * A client that sees a gap in a window says so by its last number once more. Answered once, or else a
   * packet that the network doubled would double all that follow; in windows of one it means nothing (the
   * "sorcerer's apprentice" of RFC 1123 §4.2.3.1).
   */
  #missed(): TransferStep {
    if (this.windowBlocks === 1 || this.#acked < 0 || this.#isResent) return NOTHING
    this.#isResent = true
    return this.#going()
  }

  /** Of the 16 bits: the block that was sent and not acknowledged, or the last one that was. */
  #blockOf(number: number): number | undefined {
    if (this.#acked < 0) return number === 0 ? 0 : undefined
    const ahead = (number - this.#acked) & 0xffff
    const sent = Math.min(this.windowBlocks, this.#lastBlock - this.#acked)
    return ahead <= sent ? this.#acked + ahead : undefined
  }
}

/** Returns the options that client and server both know, with the value that counts. */
function agree(options: ReadonlyMap<string, string>, fileBytes: number): Map<string, number> {
  const agreed = new Map<string, number>()
  for (const [name, text] of options) {
    const asked = /^[0-9]{1,10}$/.test(text) ? Number(text) : undefined
    if (asked === undefined) continue
    if (name === 'tsize') agreed.set(name, fileBytes)
    if (name === 'blksize' && asked >= BLOCK_BYTES_MIN) {
      agreed.set(name, Math.min(asked, BLOCK_BYTES_MAX))
    }
    if (name === 'windowsize' && asked >= 1) agreed.set(name, Math.min(asked, WINDOW_BLOCKS_MAX))
    if (name === 'timeout' && asked >= 1 && asked <= TIMEOUT_SECONDS_MAX) agreed.set(name, asked)
  }
  return agreed
}
