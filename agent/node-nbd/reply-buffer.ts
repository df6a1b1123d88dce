/**
 * Replies that are built and not yet sent. Short pieces are copied behind each other into one
 * buffer, long ones in memory stay where they are, so that any number of replies leaves with one
 * write. Between `beginReply` and the end of that reply nothing is sent, so it can be taken back.
 */
import { readSync } from 'node:fs'
import type { ReplySink } from './block-device.ts'

/** Where replies go. Both return when all bytes are gone, or throw. */
export interface ReplyOutput {
  write(bytes: Buffer, lengthBytes: number): void
  writeAll(pieces: Uint8Array[]): void
}

/** Up to this length a copy costs less than one more entry in a writev. */
const COPIED_BYTES_MAX = 16 * 1024

/** With this much pending, a reply that is done is sent: the client should not wait for more. */
const PENDING_BYTES_MAX = 256 * 1024
/** Room for the data of one reply at first; a longer one makes it grow. */
const DATA_BYTES_AT_FIRST = 1024 * 1024
/** Pieces that one writev takes (IOV_MAX is 1024). */
const PIECES_MAX = 512

/** What a reply takes beside its data: the headers of all chunks when it has many holes. */
const OVERHEAD_BYTES = 32 * 1024
const OVERHEAD_SHARE = 1 / 64

export class ReplyBuffer implements ReplySink {
  readonly #output: ReplyOutput
  #bytes: Buffer
  #view: DataView
  /** All pieces that come before the bytes from #pieceBegin on. */
  #pieces: Uint8Array[] = []
  #pieceBegin = 0
  #length = 0
  /** Bytes of pieces that do not lie in #bytes. */
  #outside = 0

  // Where the present reply began.
  #markPieces = 0
  #markPieceBegin = 0
  #markLength = 0
  #markOutside = 0

  constructor(output: ReplyOutput) {
    this.#output = output
    this.#bytes = Buffer.allocUnsafeSlow(capacityFor(DATA_BYTES_AT_FIRST))
    this.#view = new DataView(this.#bytes.buffer)
  }

  /** Where the next byte goes in the buffer; for `setInt32` and the like. */
  get position(): number {
    return this.#length
  }

  /** Bytes of the present reply. */
  get replyBytes(): number {
    return this.#length - this.#markLength + this.#outside - this.#markOutside
  }

  /** Begins a reply with at most that much data. */
  beginReply(dataBytes: number): void {
    if (this.#length + this.#outside >= PENDING_BYTES_MAX || this.#pieces.length >= PIECES_MAX) {
      this.flush()
    }
    if (dataBytes > DATA_BYTES_AT_FIRST) this.#grow(dataBytes)
    this.#markPieces = this.#pieces.length
    this.#markPieceBegin = this.#pieceBegin
    this.#markLength = this.#length
    this.#markOutside = this.#outside
  }

  /** Forgets everything since `beginReply`. */
  takeBack(): void {
    if (this.#pieces.length > this.#markPieces) this.#pieces.length = this.#markPieces
    this.#pieceBegin = this.#markPieceBegin
    this.#length = this.#markLength
    this.#outside = this.#markOutside
  }

  putInt32(value: number): void {
    this.#view.setInt32(this.#length, value)
    this.#length += 4
  }

  putInt16(value: number): void {
    this.#view.setInt16(this.#length, value)
    this.#length += 2
  }

  setInt32(position: number, value: number): void {
    this.#view.setInt32(position, value)
  }

  setInt16(position: number, value: number): void {
    this.#view.setInt16(position, value)
  }

  append(bytes: Uint8Array): void {
    if (bytes.length > COPIED_BYTES_MAX) {
      this.#addPiece(bytes)
    } else {
      this.#bytes.set(bytes, this.#length)
      this.#length += bytes.length
    }
  }

  appendPart(memory: Buffer, offset: number, length: number): void {
    if (length > COPIED_BYTES_MAX) {
      this.#addPiece(memory.subarray(offset, offset + length))
    } else {
      memory.copy(this.#bytes, this.#length, offset, offset + length)
      this.#length += length
    }
  }

  appendZeros(lengthBytes: number): void {
    this.#bytes.fill(0, this.#length, this.#length + lengthBytes)
    this.#length += lengthBytes
  }

  appendFile(fd: number, offsetBytes: number, lengthBytes: number): void {
    for (let done = 0; done < lengthBytes; ) {
      const at = this.#length + done
      const read = readSync(fd, this.#bytes, at, lengthBytes - done, offsetBytes + done)
      if (read === 0) throw new Error(`the file ends at ${offsetBytes + done}`)
      done += read
    }
    this.#length += lengthBytes
  }

  /** Sends everything. */
  flush(): void {
    if (this.#pieces.length > 0) {
      this.#endPiece()
      this.#output.writeAll(this.#pieces)
      this.#pieces = []
    } else if (this.#length > 0) {
      this.#output.write(this.#bytes, this.#length)
    }
    this.#pieceBegin = 0
    this.#length = 0
    this.#outside = 0
  }

  #grow(dataBytes: number): void {
    const capacity = capacityFor(dataBytes)
    if (capacity <= this.#bytes.length) return
    this.flush()
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
    this.#view = new DataView(this.#bytes.buffer)
  }

  #addPiece(bytes: Uint8Array): void {
    this.#endPiece()
    this.#pieces.push(bytes)
    this.#outside += bytes.length
  }

  #endPiece(): void {
    if (this.#length === this.#pieceBegin) return
    this.#pieces.push(this.#bytes.subarray(this.#pieceBegin, this.#length))
    this.#pieceBegin = this.#length
  }
}

/** Memory that is never used costs nothing: it comes page by page. */
function capacityFor(dataBytes: number): number {
  return Math.ceil(PENDING_BYTES_MAX + OVERHEAD_BYTES + dataBytes * (1 + OVERHEAD_SHARE))
}
