/**
 * Gives what was written to the server, and gets it back: the last place for a client whose memory and disk
 * are full, or the only one. A block whose bytes the server has made durable may give its slot up; it is
 * *away* then. What was sent and not acknowledged when a connection is lost is changed again.
 *
 * Main thread only; workers write meanwhile, and mark what they change.
 */
import { constants } from 'node:os'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  READ_BACK_BLOCKS_MAX,
  WRITE_BLOCKS_MAX,
  WRITES_IN_FLIGHT_BYTES_MAX,
} from '#shared/wire/limits.ts'
import {
  type ReadBack,
  type ReadBackAnswer,
  WRITE_KIND,
  type WriteRecord,
  type Written,
} from '#shared/wire/write-frames.ts'
import { NbdError } from '../node-nbd/block-device.ts'
import type { ReaderEpochs } from '../ram-tier/reader-epochs.ts'
import { blockCount } from './block-size.ts'
import type { ServerBlocks } from './server-blocks.ts'
import type { WriteListener, WriteTransport } from './write-transport.ts'

export interface WriteBackParts {
  readonly blocks: ServerBlocks
  readonly transport: WriteTransport
  readonly epochs: ReaderEpochs
  /** Of the vDisk. */
  readonly sizeBytes: number
  /** Fills the target with the base's bytes. */
  readonly readBase: (offsetBytes: number, target: Uint8Array) => Promise<void>
  /** What is written is to survive this client: all of it is given, and a flush waits for that. */
  readonly isKept: boolean
  /** Of the room that there is here, so much may be used before the server is. */
  readonly beginShare: number
  /** Something went wrong that a person should know. */
  readonly onProblem: (error: unknown) => void
}

/** How far below where giving begins it ends, so that it does not begin again at once. */
const GIVE_MARGIN_SHARE = 0.05
/** What is written is looked for this often: a file that is written for a second is sent once. */
const LOOK_MS = 250
/** Blocks given up together: their slots wait for the readers once. */
const GIVE_UP_BLOCKS = 256

interface Sent {
  readonly blocks: readonly number[]
  readonly bytes: number
}

interface Wanted extends ReadBack {
  readonly resolve: (bytes: Uint8Array) => void
  readonly reject: (error: Error) => void
}

export class WriteBack implements WriteListener {
  readonly #parts: WriteBackParts
  readonly #end: number
  readonly #timer: NodeJS.Timeout
  /** By sequence, in order: sent and not durable yet. */
  readonly #sent = new Map<number, Sent>()
  /** The last frame with each block of these: it may have been sent twice. */
  readonly #sentBlocks = new Map<number, number>()
  readonly #wanted = new Map<number, Wanted>()
  readonly #scratch = Buffer.alloc(WRITE_BLOCKS_MAX * BLOCK_BYTES)
  #sequence = 0
  #nextId = 0
  #sentBytes = 0
  #roomBytes = 0
  #isOpen = false
  #isClosed = false
  #isWorking = false
  #isWanted = false
  /** Where the search goes on. */
  #giveCursor = 0
  #dropCursor = 0
  /** Somebody waits for room. */
  #isPressed = false
  /** There may be blocks that the server has as they are: looking for them takes a look at every block. */
  #mayGiveUp = false
  #losses = 0
  #giving: Promise<unknown> = Promise.resolve()
  #working: Promise<void> = Promise.resolve()
  /** The system goes down, and nobody waits for the server any more. */
  #givenUp: Error | undefined
  #progress = Promise.withResolvers<void>()

  constructor(parts: WriteBackParts) {
    this.#parts = parts
    this.#end = blockCount(parts.sizeBytes)
    this.#timer = setInterval(() => this.#wake(), LOOK_MS).unref()
    parts.transport.listenWrites(this)
  }

  /** Whether a flush must wait for the server. */
  get isKept(): boolean {
    return this.#parts.isKept
  }

  /** Whether the server would take more. */
  get hasRoom(): boolean {
    return this.#isOpen && this.#roomBytes >= BLOCK_BYTES
  }

  onOpen(roomBytes: number): void {
    this.#isOpen = true
    this.#roomBytes = roomBytes
    this.#sequence = 0
    for (const wanted of this.#wanted.values()) this.#parts.transport.readBack(wanted)
    this.#wake()
  }

  onLost(): void {
    this.#isOpen = false
    this.#losses += 1
    for (const block of this.#sentBlocks.keys()) this.#parts.blocks.markChanged(block)
    this.#sent.clear()
    this.#sentBlocks.clear()
    this.#sentBytes = 0
    this.#announceProgress()
  }

  onWritten({ sequence, roomBytes }: Written): void {
    for (const [number, { blocks, bytes }] of this.#sent) {
      if (number > sequence) break
      this.#sent.delete(number)
      this.#sentBytes -= bytes
      for (const block of blocks) {
        if (this.#sentBlocks.get(block) === number) this.#sentBlocks.delete(block)
      }
    }
    this.#roomBytes = Math.max(0, roomBytes - this.#sentBytes)
    this.#mayGiveUp = true
    this.#announceProgress()
    this.#wake()
  }

  onBlocks({ id, bytes }: ReadBackAnswer): void {
    const wanted = this.#wanted.get(id)
    if (wanted === undefined) return
    this.#wanted.delete(id)
    if (bytes.length === wanted.blocks * BLOCK_BYTES) return wanted.resolve(bytes)
    const message = `Cannot read blocks ${wanted.firstBlock}+${wanted.blocks}: the server has lost them`
    const error = new NbdError(constants.errno.EIO, message)
    this.#parts.onProblem(error)
    wanted.reject(error)
  }

  /** Somebody waits for room. */
  press(): void {
    this.#isPressed = true
    this.#wake()
  }

  /**
   * Gets blocks that are away; `copy` is called with each piece, whose bytes are valid during the call.
   * @throws {NbdError} EIO
   */
  async fetch(
    firstBlock: number,
    blocks: number,
    copy: (firstBlock: number, bytes: Uint8Array) => void,
  ): Promise<void> {
    for (let at = 0; at < blocks; at += READ_BACK_BLOCKS_MAX) {
      const count = Math.min(READ_BACK_BLOCKS_MAX, blocks - at)
      await this.#fetchRun(firstBlock + at, count, (bytes) => copy(firstBlock + at, bytes))
    }
  }

  /** @throws {NbdError} EIO */
  async fetchBlock(block: number): Promise<Uint8Array> {
    const copy = Buffer.alloc(BLOCK_BYTES)
    await this.#fetchRun(block, 1, (bytes) => copy.set(bytes))
    return copy
  }

  /** A block that was fetched is here again, so that a part of it can be written. @throws {NbdError} */
  bringBack(block: number, bytes: Uint8Array): void {
    this.#mayGiveUp = true
    this.#parts.blocks.bringBack(block, bytes)
  }

  /** Returns when all that was written before survives this client. */
  async drain(): Promise<void> {
    for (;;) {
      const losses = this.#losses
      await this.#giveAll()
      const last = this.#sequence
      while (this.#isBefore(last) && losses === this.#losses) await this.#untilProgress()
      if (losses === this.#losses) return
    }
  }

  /** Fails those that wait for the server: the system goes down, and it must come to its end. */
  failWaiting(error: Error): void {
    this.#givenUp = error
    for (const { reject } of this.#wanted.values()) reject(error)
    this.#wanted.clear()
    this.#announceProgress()
  }

  /** Call when no reader is left. Returns when nothing here uses the write cache any more. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.failWaiting(new Error('the write cache is closed'))
    await this.#working
    await this.#giving
  }

  #isBefore(sequence: number): boolean {
    const [first] = this.#sent.keys()
    return first !== undefined && first <= sequence
  }

  /** Sends all that is changed now; what is changed meanwhile may be sent, too. */
  async #giveAll(): Promise<void> {
    for (let block = 0; block < this.#end && !this.#isClosed; ) {
      const next = this.#parts.blocks.nextChanged(block, this.#end)
      if (next === undefined) return
      await this.#untilSendable()
      block = await this.#give(next)
    }
  }

  async #untilSendable(): Promise<void> {
    while (!this.#isClosed && (!this.#isOpen || this.#isFull())) await this.#untilProgress()
  }

  async #untilProgress(): Promise<void> {
    this.#assertNotGivenUp()
    await this.#progress.promise
    this.#assertNotGivenUp()
  }

  #assertNotGivenUp(): void {
    if (this.#givenUp === undefined) return
    throw new NbdError(constants.errno.EIO, this.#givenUp.message)
  }

  #isFull(): boolean {
    const isOnItsWay = this.#sentBytes >= WRITES_IN_FLIGHT_BYTES_MAX - this.#scratch.length
    return isOnItsWay || this.#roomBytes < this.#scratch.length
  }

  #wake(): void {
    this.#isWanted = true
    if (!this.#isWorking) this.#working = this.#work()
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    try {
      while (this.#isWanted && !this.#isClosed) {
        this.#isWanted = false
        await this.#giveSome()
        await this.#giveUpSome()
      }
    } catch (error) {
      if (!this.#isClosed) this.#parts.onProblem(error)
    } finally {
      this.#isWorking = false
    }
  }

  async #giveSome(): Promise<void> {
    const { blocks } = this.#parts
    const wants = () => this.#parts.isKept || this.#usedShare() > this.#parts.beginShare
    while (!this.#isClosed && this.#isOpen && !this.#isFull() && wants()) {
      const next =
        blocks.nextChanged(this.#giveCursor, this.#end) ?? blocks.nextChanged(0, this.#giveCursor)
      if (next === undefined) return
      this.#giveCursor = await this.#give(next)
    }
  }

  /** Sends a frame of changed blocks from this one on. Returns where to go on. One at a time. */
  async #give(first: number): Promise<number> {
    const given = this.#giving.then(() => this.#giveNow(first))
    this.#giving = given.catch(() => undefined)
    return await given
  }

  async #giveNow(first: number): Promise<number> {
    const { blocks: source, transport } = this.#parts
    const records: WriteRecord[] = []
    const blocks: number[] = []
    let bytes = 0
    let block: number | undefined = first
    while (block !== undefined && bytes < this.#scratch.length) {
      const target = this.#scratch.subarray(bytes, bytes + BLOCK_BYTES)
      let taken = source.take(block, target)
      if (taken === 'part') {
        await this.#complete(block)
        taken = source.take(block, target)
        // Written to again meanwhile: another time.
        if (taken === 'part') break
      }
      if (taken === 'data' || taken === 'zero') {
        addRecord(records, block, taken === 'data' ? target : undefined)
        blocks.push(block)
        if (taken === 'data') bytes += BLOCK_BYTES
      }
      // Far apart is as good as near: there are records for both.
      block =
        blocks.length < 4 * WRITE_BLOCKS_MAX ? source.nextChanged(block + 1, this.#end) : undefined
    }
    const goOn = (blocks.at(-1) ?? first) + 1
    if (blocks.length === 0) return goOn
    if (!this.#isOpen) {
      for (const lost of blocks) source.markChanged(lost)
      return goOn
    }
    this.#sequence += 1
    this.#sent.set(this.#sequence, { blocks, bytes })
    for (const sent of blocks) this.#sentBlocks.set(sent, this.#sequence)
    this.#sentBytes += bytes
    this.#roomBytes -= bytes
    transport.write(this.#sequence, records)
    return goOn
  }

  async #complete(block: number): Promise<void> {
    const base = Buffer.alloc(BLOCK_BYTES)
    const offsetBytes = block * BLOCK_BYTES
    const length = Math.min(BLOCK_BYTES, this.#parts.sizeBytes - offsetBytes)
    await this.#parts.readBase(offsetBytes, base.subarray(0, length))
    this.#parts.blocks.complete(block, base)
  }

  /** Gives up slots of what the server has, as long as there is need of room. */
  async #giveUpSome(): Promise<void> {
    const { blocks, epochs, beginShare } = this.#parts
    const needsRoom = () =>
      this.#isPressed || this.#usedShare() > Math.max(0, beginShare - GIVE_MARGIN_SHARE)
    while (!this.#isClosed && this.#mayGiveUp && needsRoom()) {
      const slots: number[] = []
      while (slots.length < GIVE_UP_BLOCKS) {
        const block = this.#nextToGiveUp()
        if (block === undefined) {
          this.#mayGiveUp = false
          break
        }
        this.#dropCursor = block + 1
        const slot = blocks.giveAway(block)
        if (slot !== undefined) slots.push(slot)
      }
      this.#isPressed = false
      if (slots.length === 0) return
      await epochs.pass(epochs.advance())
      blocks.freeSlots(slots)
    }
  }

  #nextToGiveUp(): number | undefined {
    for (const [from, end] of [
      [this.#dropCursor, this.#end],
      [0, this.#dropCursor],
    ] as const) {
      let block = this.#parts.blocks.nextUnchanged(from, end)
      while (block !== undefined && this.#sentBlocks.has(block)) {
        block = this.#parts.blocks.nextUnchanged(block + 1, end)
      }
      if (block !== undefined) return block
    }
    return undefined
  }

  #usedShare(): number {
    const { usedBytes, limitBytes } = this.#parts.blocks
    return limitBytes === 0 ? 1 : usedBytes / limitBytes
  }

  async #fetchRun(
    firstBlock: number,
    blocks: number,
    copy: (bytes: Uint8Array) => void,
  ): Promise<void> {
    const id = this.#nextId
    this.#nextId = (this.#nextId + 1) >>> 0
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const wanted: Wanted = {
      id,
      firstBlock,
      blocks,
      resolve: (bytes) => {
        copy(bytes)
        resolve()
      },
      reject,
    }
    this.#wanted.set(id, wanted)
    if (this.#isOpen) this.#parts.transport.readBack(wanted)
    await promise
  }

  #announceProgress(): void {
    const progress = this.#progress
    this.#progress = Promise.withResolvers()
    progress.resolve()
  }
}

/** Joins a block to the record before it where it lies behind that. `bytes` are views of one buffer. */
function addRecord(records: WriteRecord[], block: number, bytes: Buffer | undefined): void {
  const kind = bytes === undefined ? WRITE_KIND.zero : WRITE_KIND.data
  const last = records.at(-1)
  const isNext = last?.kind === kind && last.firstBlock + last.blocks === block
  if (last === undefined || !isNext) {
    records.push({ kind, firstBlock: block, blocks: 1, bytes: bytes ?? new Uint8Array(0) })
    return
  }
  const joined =
    bytes === undefined
      ? last.bytes
      : new Uint8Array(last.bytes.buffer, last.bytes.byteOffset, last.bytes.length + bytes.length)
  records[records.length - 1] = { ...last, blocks: last.blocks + 1, bytes: joined }
}
