/**
 * Node's own zstd decoder without a new context and a new buffer per chunk: a third faster than
 * `zstdDecompressSync`, and no work for the garbage collector. It stands on internal names of Node
 * (`_handle.writeSync`, `_writeState` of a zlib stream); the only file that does. Where they are
 * not what they were in Node 24, `createZstdHandle` returns undefined.
 */
import { constants, createZstdDecompress, zstdCompressSync } from 'node:zlib'
import { zstdWindowBytes } from './zstd-window.ts'

/** Memory one frame may ask the decoder to keep, as a power of two: 8 MiB, the window of level 19. */
export const ZSTD_WINDOW_LOG_MAX = 23

interface Handle {
  reset(): void
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void
  onerror: (message: string) => void
}

export interface ZstdHandle {
  /**
   * Decodes one whole frame into exactly `length` bytes of the target.
   * @throws when it is damaged, shorter or longer
   */
  decode(frame: Uint8Array, target: Uint8Array, offset: number, length: number): void
}

export function createZstdHandle(): ZstdHandle | undefined {
  try {
    const handle = new InternalZstdHandle()
    handle.test()
    return handle
  } catch {
    // Whatever went wrong: this Node does it differently, and there is the public way.
    return undefined
  }
}

class InternalZstdHandle implements ZstdHandle {
  #handle!: Handle
  /** Bytes left of output and input after a call. */
  #state!: Uint32Array
  #error: string | undefined
  readonly #beyond = Buffer.alloc(1)

  constructor() {
    this.#renew()
  }

  decode(frame: Uint8Array, target: Uint8Array, offset: number, length: number): void {
    assertWindow(frame, 0)
    this.#error = undefined
    this.#handle.reset()
    this.#write(frame, 0, target, offset, length)
    const outputLeft = this.#state[0] ?? 0
    let inputLeft = this.#state[1] ?? 0
    if (this.#error === undefined && outputLeft === 0) {
      // A full target stops the decoder: what is left must be no more than the end of the frame, or
      // an empty frame, which Node puts behind some.
      assertWindow(frame, frame.length - inputLeft)
      this.#write(frame, frame.length - inputLeft, this.#beyond, 0, this.#beyond.length)
      inputLeft = this.#state[1] ?? 0
      if (this.#state[0] !== this.#beyond.length) this.#error = 'it is longer'
    }
    if (outputLeft !== 0) this.#error ??= 'it is shorter'
    if (inputLeft !== 0) this.#error ??= 'something follows it'
    if (this.#error === undefined) return
    // An error sticks to the handle.
    this.#renew()
    throw new Error(this.#error)
  }

  /** Decodes what Node itself encoded, into shared memory, well and badly. @throws when anything differs */
  test(): void {
    const plain = Buffer.alloc(8192, 'bootwire')
    const frame = zstdCompressSync(plain)
    const target = Buffer.from(new SharedArrayBuffer(2 * plain.length))
    this.decode(frame, target, 100, plain.length)
    if (plain.compare(target, 100, 100 + plain.length) !== 0) throw new Error('wrong bytes')
    for (const length of [plain.length - 1, plain.length + 1]) {
      if (this.#accepts(frame, target, length)) throw new Error('wrong length')
    }
    if (this.#accepts(frame.subarray(0, -1), target, plain.length)) throw new Error('cut frame')
    this.decode(frame, target, 0, plain.length)
  }

  #accepts(frame: Uint8Array, target: Uint8Array, length: number): boolean {
    try {
      this.decode(frame, target, 0, length)
      return true
    } catch {
      return false
    }
  }

  /** Feeds the frame from `begin` on. */
  #write(
    frame: Uint8Array,
    begin: number,
    output: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const flush = constants.ZSTD_e_end
    this.#handle.writeSync(flush, frame, begin, frame.length - begin, output, offset, length)
  }

  #renew(): void {
    const stream: unknown = createZstdDecompress()
    const { _handle: handle, _writeState: state } = stream as {
      readonly _handle: Handle
      readonly _writeState: Uint32Array
    }
    handle.onerror = (message) => {
      this.#error = message
    }
    this.#handle = handle
    this.#state = state
  }
}

function assertWindow(frame: Uint8Array, begin: number): void {
  if (zstdWindowBytes(frame, begin) > 2 ** ZSTD_WINDOW_LOG_MAX) {
    throw new Error('it asks for too much memory')
  }
}
