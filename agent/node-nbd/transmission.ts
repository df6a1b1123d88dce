/**
 * The transmission phase of one connection, apart from how bytes come and go: every request is
 * checked, made to the hot device and answered at once, or passed on to the cold device.
 */
import type { HotDevice } from './block-device.ts'
import type { ColdRequest } from './cold-channel.ts'
import type { ExportFacts, Negotiated } from './export-facts.ts'
import { ERRNO, errnoOf } from './nbd-errno.ts'
import { COMMAND, COMMAND_FLAG } from './protocol.ts'
import type { ReplyEncoder } from './reply-encoder.ts'
import type { RequestReader } from './request-reader.ts'

/** The way to the cold device. */
export interface ColdPath {
  /** May wait for room; a write's payload is taken over before it returns. */
  submit(request: ColdRequest): void
}

export interface TransmissionParts {
  readonly facts: ExportFacts
  readonly negotiated: Negotiated
  readonly hot: HotDevice
  readonly reader: RequestReader
  readonly encoder: ReplyEncoder
  /** Absent when the export has no cold device. */
  readonly cold: ColdPath | undefined
}

/** Flags a command may carry; FUA is harmless on any. */
const FLAGS_OF: ReadonlyMap<number, number> = new Map([
  [COMMAND.read, COMMAND_FLAG.df],
  [COMMAND.write, 0],
  [COMMAND.flush, 0],
  [COMMAND.trim, 0],
  [COMMAND.cache, 0],
  [COMMAND.writeZeroes, COMMAND_FLAG.noHole | COMMAND_FLAG.fastZero],
  [COMMAND.blockStatus, COMMAND_FLAG.reqOne],
])

const CHANGES: ReadonlySet<number> = new Set([COMMAND.write, COMMAND.trim, COMMAND.writeZeroes])

export class Transmission {
  readonly #facts: ExportFacts
  readonly #negotiated: Negotiated
  readonly #hot: HotDevice
  readonly #reader: RequestReader
  readonly #encoder: ReplyEncoder
  readonly #cold: ColdPath | undefined
  #servedCount = 0

  constructor({ facts, negotiated, hot, reader, encoder, cold }: TransmissionParts) {
    this.#facts = facts
    this.#negotiated = negotiated
    this.#hot = hot
    this.#reader = reader
    this.#encoder = encoder
    this.#cold = cold
  }

  /**
   * Serves every request that is whole; returns false after the one that ends the connection.
   * @throws {ProtocolError} when the peer does not speak the protocol
   */
  serveRequests(): boolean {
    const reader = this.#reader
    while (reader.next()) {
      this.#servedCount += 1
      if (reader.type === COMMAND.disconnect) return false
      // By far the most frequent one, and the one that must be fast.
      if (reader.type === COMMAND.read && reader.flags === 0) this.#serveRead()
      else this.#serveOther()
    }
    return true
  }

  /** Returns how many requests came since the last call. */
  takeServedCount(): number {
    const count = this.#servedCount
    this.#servedCount = 0
    return count
  }

  #serveRead(): void {
    const { offset, length, cookieHigh, cookieLow, flags } = this.#reader
    const errno = this.#rangeErrno()
    if (errno !== ERRNO.none) return this.#encoder.failRead(cookieHigh, cookieLow, errno)
    const whole = (flags & COMMAND_FLAG.df) !== 0
    const sink = this.#encoder.beginRead(cookieHigh, cookieLow, offset, length, whole)
    let here = false
    try {
      here = this.#hot.read(offset, length, sink)
      if (here && this.#encoder.endRead() !== length) {
        throw new Error(`the hot device gave other than the ${length} bytes at ${offset}`)
      }
    } catch (error) {
      this.#encoder.takeBack()
      return this.#encoder.failRead(cookieHigh, cookieLow, errnoOf(error))
    }
    if (here) return
    this.#encoder.takeBack()
    this.#askCold()
  }

  #serveOther(): void {
    const { type, flags } = this.#reader
    const errno = this.#requestErrno()
    if (errno !== ERRNO.none) return this.#fail(errno)
    if (type === COMMAND.read) return this.#serveRead()
    let done = true
    try {
      if (type === COMMAND.blockStatus) return this.#serveBlockStatus()
      done = this.#make(type, (flags & COMMAND_FLAG.fua) !== 0)
    } catch (error) {
      return this.#fail(errnoOf(error))
    }
    if (done) this.#answer(ERRNO.none)
    else this.#askCold()
  }

  /** Makes the request to the hot device; returns false when the cold one must be asked. */
  #make(type: number, fua: boolean): boolean {
    const { offset, length, flags } = this.#reader
    if (type === COMMAND.write) return this.#hot.write(offset, this.#reader.payload, fua)
    if (type === COMMAND.flush) return this.#hot.flush()
    if (type === COMMAND.trim) return this.#hot.trim(offset, length, fua)
    if (type === COMMAND.cache) {
      this.#hot.prefetch?.(offset, length)
      return true
    }
    const mayTrim = (flags & COMMAND_FLAG.noHole) === 0
    return this.#hot.writeZeroes(offset, length, mayTrim, fua)
  }

  #serveBlockStatus(): void {
    const { offset, length, flags, cookieHigh, cookieLow } = this.#reader
    const extents = this.#hot.extents(offset, length)
    const only = (flags & COMMAND_FLAG.reqOne) !== 0
    this.#encoder.blockStatus(cookieHigh, cookieLow, only ? extents.slice(0, 1) : extents)
  }

  #askCold(): void {
    const { type, flags, cookieHigh, cookieLow, offset, length } = this.#reader
    if (this.#cold === undefined) return this.#fail(ERRNO.EIO)
    this.#cold.submit({ type, flags, cookieHigh, cookieLow, offset, length })
  }

  /** What is wrong with the request, apart from the device's state. */
  #requestErrno(): number {
    const { type, flags } = this.#reader
    const allowed = FLAGS_OF.get(type)
    if (allowed === undefined || (flags & ~(allowed | COMMAND_FLAG.fua)) !== 0) return ERRNO.EINVAL
    if (CHANGES.has(type) && this.#facts.readOnly) return ERRNO.EPERM
    if (type === COMMAND.flush) return ERRNO.none
    if (type === COMMAND.blockStatus && !this.#negotiated.baseAllocation) return ERRNO.EINVAL
    if ((flags & COMMAND_FLAG.df) !== 0 && !this.#negotiated.structuredReplies) return ERRNO.EINVAL
    // The device does not say how fast it is at it.
    if ((flags & COMMAND_FLAG.fastZero) !== 0 && !this.#facts.fastZeroes) return ERRNO.ENOTSUP
    return this.#rangeErrno()
  }

  #rangeErrno(): number {
    const { type, offset, length } = this.#reader
    const { sizeBytes, minimumBlockBytes, maximumBlockBytes } = this.#facts
    if (length === 0) return ERRNO.EINVAL
    if (offset % minimumBlockBytes !== 0 || length % minimumBlockBytes !== 0) return ERRNO.EINVAL
    if (offset + length > sizeBytes) {
      return type === COMMAND.write || type === COMMAND.writeZeroes ? ERRNO.ENOSPC : ERRNO.EINVAL
    }
    const carriesData = type === COMMAND.read || type === COMMAND.write
    return carriesData && length > maximumBlockBytes ? ERRNO.EINVAL : ERRNO.none
  }

  #answer(errno: number): void {
    this.#encoder.answer(this.#reader.cookieHigh, this.#reader.cookieLow, errno)
  }

  #fail(errno: number): void {
    const { type, cookieHigh, cookieLow } = this.#reader
    if (type === COMMAND.read) this.#encoder.failRead(cookieHigh, cookieLow, errno)
    else if (type === COMMAND.blockStatus && this.#negotiated.structuredReplies) {
      this.#encoder.failStructured(cookieHigh, cookieLow, errno)
    } else this.#answer(errno)
  }
}
