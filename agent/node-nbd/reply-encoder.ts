/**
 * Puts the replies of one connection into a buffer: simple ones, or structured ones when the client
 * negotiated them. With structured replies only reads and block status need them; everything else is
 * answered by a simple reply, as the protocol allows.
 */
import type { Extent, ReplySink } from './block-device.ts'
import {
  BASE_ALLOCATION_ID,
  CHUNK,
  CHUNK_FLAG_DONE,
  EXTENT_FLAG,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts'
import type { ReplyBuffer } from './reply-buffer.ts'

/** Zeros from this length on travel as a hole; for fewer the header is not worth it. */
const HOLE_BYTES_MIN = 4096

/** Extents of one answer: with 1,024 it is 8 KiB long, and the client asks on from its end. */
export const EXTENTS_MAX = 1024

const OFFSET_BYTES = 8
const EXTENT_BYTES = 8
const TWO_TO_32 = 2 ** 32

export class ReplyEncoder {
  readonly #replies: ReplyBuffer
  readonly #structured: boolean
  readonly #chunks: ReadChunks

  constructor(replies: ReplyBuffer, structured: boolean) {
    this.#replies = replies
    this.#structured = structured
    this.#chunks = new ReadChunks(replies)
  }

  /** A reply without data. `errno` 0 says that all went well. */
  answer(cookieHigh: number, cookieLow: number, errno: number): void {
    this.#replies.beginReply(0)
    this.#simpleHeader(cookieHigh, cookieLow, errno)
  }

  /** The reply to a read that failed. */
  failRead(cookieHigh: number, cookieLow: number, errno: number): void {
    if (this.#structured) this.failStructured(cookieHigh, cookieLow, errno)
    else this.answer(cookieHigh, cookieLow, errno)
  }

  /** The reply to a block status that failed, and of a read when replies are structured. */
  failStructured(cookieHigh: number, cookieLow: number, errno: number): void {
    const replies = this.#replies
    replies.beginReply(0)
    putChunkHeader(replies, CHUNK_FLAG_DONE, CHUNK.error, cookieHigh, cookieLow)
    replies.putInt32(6)
    replies.putInt32(errno)
    replies.putInt16(0) // no message
  }

  /**
   * Begins the reply to a read; the data goes into the sink that is returned, and `endRead` ends it.
   * `whole`: the client wants it in one piece (DF).
   */
  beginRead(
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    whole: boolean,
  ): ReplySink {
    this.#replies.beginReply(length)
    if (this.#structured) {
      this.#chunks.begin(cookieHigh, cookieLow, offset, whole)
      return this.#chunks
    }
    this.#simpleHeader(cookieHigh, cookieLow, 0)
    return this.#replies
  }

  /** Returns how many bytes of data the reply to the read has. */
  endRead(): number {
    if (this.#structured) return this.#chunks.end()
    return this.#replies.replyBytes - SIMPLE_REPLY_BYTES
  }

  /** Forgets the reply that was begun. */
  takeBack(): void {
    this.#replies.takeBack()
  }

  blockStatus(cookieHigh: number, cookieLow: number, extents: readonly Extent[]): void {
    const replies = this.#replies
    const count = Math.min(extents.length, EXTENTS_MAX)
    replies.beginReply(0)
    putChunkHeader(replies, CHUNK_FLAG_DONE, CHUNK.blockStatus, cookieHigh, cookieLow)
    replies.putInt32(4 + count * EXTENT_BYTES)
    replies.putInt32(BASE_ALLOCATION_ID)
    for (const { lengthBytes, zero, hole } of extents.slice(0, count)) {
      replies.putInt32(lengthBytes)
      replies.putInt32((zero ? EXTENT_FLAG.zero : 0) | (hole ? EXTENT_FLAG.hole : 0))
    }
  }

  #simpleHeader(cookieHigh: number, cookieLow: number, errno: number): void {
    const replies = this.#replies
    replies.putInt32(SIMPLE_REPLY_MAGIC)
    replies.putInt32(errno)
    replies.putInt32(cookieHigh)
    replies.putInt32(cookieLow)
  }
}

/** The data of a structured read as it comes: runs of bytes and holes, each a reply chunk. */
class ReadChunks implements ReplySink {
  readonly #replies: ReplyBuffer
  #cookieHigh = 0
  #cookieLow = 0
  #offset = 0
  #whole = false
  #dataBytes = 0
  /** Where the header of the last reply chunk lies; -1 before the first. */
  #header = -1
  /** Data bytes before the reply chunk of data that is open; -1 when none is. */
  #openedAt = -1

  constructor(replies: ReplyBuffer) {
    this.#replies = replies
  }

  begin(cookieHigh: number, cookieLow: number, offset: number, whole: boolean): void {
    this.#cookieHigh = cookieHigh
    this.#cookieLow = cookieLow
    this.#offset = offset
    this.#whole = whole
    this.#dataBytes = 0
    this.#header = -1
    this.#openedAt = -1
  }

  end(): number {
    this.#close()
    this.#replies.setInt16(this.#header + 4, CHUNK_FLAG_DONE)
    return this.#dataBytes
  }

  append(bytes: Uint8Array): void {
    this.#open()
    this.#replies.append(bytes)
    this.#dataBytes += bytes.length
  }

  appendPart(memory: Buffer, offset: number, length: number): void {
    this.#open()
    this.#replies.appendPart(memory, offset, length)
    this.#dataBytes += length
  }

  appendZeros(lengthBytes: number): void {
    if (this.#whole || lengthBytes < HOLE_BYTES_MIN) {
      this.#open()
      this.#replies.appendZeros(lengthBytes)
    } else {
      this.#close()
      this.#begin(CHUNK.offsetHole)
      this.#replies.setInt32(this.#header + 16, OFFSET_BYTES + 4)
      this.#replies.putInt32(lengthBytes)
    }
    this.#dataBytes += lengthBytes
  }

  appendFile(fd: number, offsetBytes: number, lengthBytes: number): void {
    this.#open()
    this.#replies.appendFile(fd, offsetBytes, lengthBytes)
    this.#dataBytes += lengthBytes
  }

  #open(): void {
    if (this.#openedAt >= 0) return
    this.#begin(CHUNK.offsetData)
    this.#openedAt = this.#dataBytes
  }

  #close(): void {
    if (this.#openedAt < 0) return
    const lengthBytes = OFFSET_BYTES + this.#dataBytes - this.#openedAt
    this.#replies.setInt32(this.#header + 16, lengthBytes)
    this.#openedAt = -1
  }

  #begin(type: number): void {
    const replies = this.#replies
    const offset = this.#offset + this.#dataBytes
    this.#header = replies.position
    putChunkHeader(replies, 0, type, this.#cookieHigh, this.#cookieLow)
    replies.putInt32(0) // the length, when it is known
    replies.putInt32(Math.floor(offset / TWO_TO_32))
    replies.putInt32(offset >>> 0)
  }
}

/** All of the header but the length, the last 4 of its 20 bytes. */
function putChunkHeader(
  replies: ReplyBuffer,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  replies.putInt32(STRUCTURED_REPLY_MAGIC)
  replies.putInt16(flags)
  replies.putInt16(type)
  replies.putInt32(cookieHigh)
  replies.putInt32(cookieLow)
}
