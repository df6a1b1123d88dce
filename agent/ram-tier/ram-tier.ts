/**
 * The RAM tier: chunks of the vDisk in a ring of 4 KiB frames, in shared memory. The main thread is
 * the only one that inserts; workers read without a lock.
 *
 * The ring is cut into *runs* of frames, each of them
 *   cached    holds a chunk: its blocks are in the index;
 *   free      its former blocks left the index at `epoch`; may be written once that has passed;
 *   reserved  is being filled by a decoder; nobody else touches it.
 * A hand goes around and frees cached runs, oldest first, but spares those read since it last came
 * by (second chance), and, while there are others, those *guarded*: fetched before anybody asked, and
 * not read yet. What was read is in the kernel's page cache, too; what was not is nowhere else. The
 * hand works ahead, so that the epoch of what is taken has usually passed. Free runs too short for
 * the longest chunk are joined with the next ones when the hand passes.
 *
 * A worker marks each frame with the time of its first read. The first read of each run is told once:
 * when the hand takes the marks away, or when they are harvested.
 *
 * A block that is known to be zero needs no frame and is never forgotten.
 */
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES, vdiskBlocks } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import { monotonicMs, ReadClock } from './read-clock.ts'
import { createReaderEpochs, NO_EPOCH, ReaderEpochs } from './reader-epochs.ts'

export const RAM_TIER_BYTES_DEFAULT: number = 64 * MiB
/** Below this, requests in flight would take all of it. */
export const RAM_TIER_BYTES_MIN: number = 4 * MiB

/** Values in the index; every other one is FRAME_BASE plus the number of a frame. */
export const FRAME_ABSENT = 0 // memory that was never touched reads as this, and costs nothing
export const FRAME_ZERO = 1
export const FRAME_BASE = 2

/** What a worker needs to read the tier. */
export interface RamTierMemory {
  /** Int32 per block of the vDisk: where it is. */
  readonly index: SharedArrayBuffer
  /** Uint32 per frame: when it was first read (ReadClock); 0 for not since it was filled. */
  readonly marks: SharedArrayBuffer
  /** What ReadClock counts from. */
  readonly beganAtMs: number
  readonly frames: SharedArrayBuffer
  readonly epochs: SharedArrayBuffer
}

/** Frames for one chunk that is on its way. `memory` from `offset` on is its room. */
export interface Reservation {
  readonly firstFrame: number
  readonly frameCount: number
  readonly memory: Buffer
  readonly offset: number
}

/** Told once for each chunk that was read by a worker: its first block, and when. */
export type FirstReadListener = (firstBlock: number, atMs: number) => void

const CHUNK_FRAMES_MAX = CHUNK_BYTES_MAX / BLOCK_BYTES

/** Freed ahead of what is taken: 16 chunks, more than a worker's longest batch of misses. */
const HEADROOM_FRAMES = (2 * MiB) / BLOCK_BYTES
/** … but no more than this part of a small tier. */
const HEADROOM_SHARE = 1 / 8

// What #runBlock says of a run that is not cached.
const RUN_FREE = -1
const RUN_RESERVED = -2

// What #runUse says of a run that is cached.
const USE_TOLD = 0
/** Nobody has read it, or it was not told yet. */
const USE_UNREAD = 1
const USE_GUARDED = 2

/** How a chunk came to be published. */
export type Arrival = 'demanded' | 'readahead' | 'guarded'
const USE_OF_ARRIVAL = { demanded: USE_TOLD, readahead: USE_UNREAD, guarded: USE_GUARDED } as const

export class RamTier {
  readonly memory: RamTierMemory
  /** Reservations that can always be had at once, however they lie. */
  readonly reservationsMax: number

  readonly #index: Int32Array<SharedArrayBuffer>
  readonly #marks: Uint32Array<SharedArrayBuffer>
  readonly #clock: ReadClock
  readonly #frames: Buffer<SharedArrayBuffer>
  readonly #frameCount: number
  readonly #epochs: ReaderEpochs

  // Indexed by the first frame of a run; undefined elsewhere.
  readonly #runLength: Int32Array
  readonly #runBlock: Int32Array
  readonly #runEpoch: Int32Array
  readonly #runUse: Uint8Array
  /** First frames of the free runs, in the order they should be taken. */
  readonly #free: number[] = [0]
  /** First frame of the run to look at next. */
  #hand = 0
  /** First frame of the free run that ends at the hand, -1 for none. It may be taken meanwhile. */
  #freeBehindHand = -1
  #guardedFrames = 0
  #onFirstRead: FirstReadListener = () => undefined

  /** `epochs` is only given by tests. */
  constructor(sizeBytes: number, tierBytes: number, epochs?: ReaderEpochs) {
    invariant(tierBytes >= RAM_TIER_BYTES_MIN, `RAM tier of ${tierBytes} bytes`)
    this.#frameCount = Math.floor(tierBytes / BLOCK_BYTES)
    this.memory = {
      index: new SharedArrayBuffer(vdiskBlocks(sizeBytes) * 4),
      marks: new SharedArrayBuffer(this.#frameCount * 4),
      beganAtMs: monotonicMs(),
      frames: new SharedArrayBuffer(this.#frameCount * BLOCK_BYTES),
      epochs: createReaderEpochs(),
    }
    this.#index = new Int32Array(this.memory.index)
    this.#marks = new Uint32Array(this.memory.marks)
    this.#clock = new ReadClock(this.memory.beganAtMs)
    this.#frames = Buffer.from(this.memory.frames)
    this.#epochs = epochs ?? new ReaderEpochs(this.memory.epochs)
    this.#runLength = new Int32Array(this.#frameCount)
    this.#runBlock = new Int32Array(this.#frameCount)
    this.#runEpoch = new Int32Array(this.#frameCount)
    this.#runUse = new Uint8Array(this.#frameCount)
    this.#setFree(0, this.#frameCount, NO_EPOCH)
    // Worst case: each reservation lies so that what is left beside it is just too short.
    this.reservationsMax = Math.floor(
      (this.#frameCount - 2 * CHUNK_FRAMES_MAX) / (3 * CHUNK_FRAMES_MAX),
    )
  }

  get sizeBytes(): number {
    return this.#frameCount * BLOCK_BYTES
  }

  /** Frames of chunks that are guarded, as far as it was told that they were read. */
  get guardedBytes(): number {
    return this.#guardedFrames * BLOCK_BYTES
  }

  /** Sets the one listener. */
  onFirstRead(listener: FirstReadListener): void {
    this.#onFirstRead = listener
  }

  /** Tells what was read since the last time. */
  harvest(): void {
    for (let run = 0; run < this.#frameCount; run += this.#lengthOf(run)) {
      const isUntold = (this.#runBlock[run] ?? RUN_FREE) >= 0 && this.#runUse[run] !== USE_TOLD
      if (isUntold) this.#tell(run, this.#firstMark(run, this.#lengthOf(run)))
    }
  }

  /** Nothing is guarded any longer; nobody will read it. */
  unguardAll(): void {
    for (let run = 0; run < this.#frameCount; run += this.#lengthOf(run)) {
      if ((this.#runBlock[run] ?? RUN_FREE) >= 0) this.#unguard(run, USE_UNREAD)
    }
  }

  /**
   * Takes room for a chunk. Returns undefined when it must wait for readers: `room` says when to
   * try again. Every reservation ends with `publish` or `cancel`.
   */
  reserve(lengthBytes: number): Reservation | undefined {
    invariant(
      lengthBytes > 0 && lengthBytes <= CHUNK_BYTES_MAX,
      `a chunk of ${lengthBytes / KiB} KiB`,
    )
    const frameCount = Math.ceil(lengthBytes / BLOCK_BYTES)
    this.#freeAhead()
    while (!this.#free.some((run) => this.#lengthOf(run) >= frameCount)) {
      if (!this.#freeNext()) break
    }
    const at = this.#free.findIndex(
      (run) => this.#lengthOf(run) >= frameCount && this.#epochs.hasPassed(this.#epochOf(run)),
    )
    return at < 0 ? undefined : this.#take(at, frameCount)
  }

  /** Returns when everything freed so far may be reserved. */
  room(): Promise<void> {
    return this.#epochs.pass(this.#epochs.advance())
  }

  /**
   * Makes the chunk in the reserved frames readable as the blocks from `firstBlock` on. The first
   * read of one that was demanded is not told: who demanded it knows.
   */
  publish(reservation: Reservation, firstBlock: number, arrival: Arrival = 'demanded'): void {
    const { firstFrame, frameCount } = reservation
    this.#assertReserved(reservation)
    this.#marks.fill(0, firstFrame, firstFrame + frameCount)
    this.#runBlock[firstFrame] = firstBlock
    this.#runUse[firstFrame] = USE_OF_ARRIVAL[arrival]
    if (arrival === 'guarded') this.#guardedFrames += frameCount
    for (let at = 0; at < frameCount; at += 1) {
      // Atomic: who sees the index must see the frame's bytes.
      Atomics.store(this.#index, firstBlock + at, FRAME_BASE + firstFrame + at)
    }
  }

  /** Remembers that the blocks are zero. */
  publishZeros(firstBlock: number, lengthBlocks: number): void {
    this.#index.fill(FRAME_ZERO, firstBlock, firstBlock + lengthBlocks)
  }

  /** Gives the frames back; the next reservation of that length gets them. */
  cancel(reservation: Reservation): void {
    this.#assertReserved(reservation)
    this.#setFree(reservation.firstFrame, reservation.frameCount, NO_EPOCH)
    this.#free.unshift(reservation.firstFrame)
  }

  has(block: number): boolean {
    return this.#index[block] !== FRAME_ABSENT
  }

  /**
   * Copies the range into the target and returns true, or returns false when a block is not here. Counts
   * as a read of it.
   */
  copyTo(target: Uint8Array, offsetBytes: number, lengthBytes: number): boolean {
    const firstBlock = Math.floor(offsetBytes / BLOCK_BYTES)
    const endBlock = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES)
    for (let block = firstBlock; block < endBlock; block += 1) if (!this.has(block)) return false
    for (let block = firstBlock; block < endBlock; block += 1) {
      const begin = Math.max(offsetBytes, block * BLOCK_BYTES)
      const end = Math.min(offsetBytes + lengthBytes, (block + 1) * BLOCK_BYTES)
      this.#copyPart(target, begin - offsetBytes, block, begin - block * BLOCK_BYTES, end - begin)
    }
    return true
  }

  #copyPart(target: Uint8Array, at: number, block: number, offset: number, length: number): void {
    const place = this.#index[block] ?? FRAME_ABSENT
    if (place === FRAME_ZERO) {
      target.fill(0, at, at + length)
      return
    }
    const frame = place - FRAME_BASE
    if (this.#marks[frame] === 0) this.#marks[frame] = this.#clock.now()
    const begin = frame * BLOCK_BYTES + offset
    this.#frames.copy(target, at, begin, begin + length)
  }

  #take(at: number, frameCount: number): Reservation {
    const run = this.#free[at] ?? 0
    const rest = this.#lengthOf(run) - frameCount
    if (rest > 0) {
      this.#setFree(run + frameCount, rest, this.#epochOf(run))
      this.#free[at] = run + frameCount
    } else {
      this.#free.splice(at, 1)
    }
    this.#runLength[run] = frameCount
    this.#runBlock[run] = RUN_RESERVED
    return { firstFrame: run, frameCount, memory: this.#frames, offset: run * BLOCK_BYTES }
  }

  #freeAhead(): void {
    const wanted = Math.min(HEADROOM_FRAMES, this.#frameCount * HEADROOM_SHARE)
    // What is guarded gives way only to a chunk that has no room otherwise.
    while (this.#headroom() < wanted) if (!this.#freeNextOf(true)) return
  }

  /** Free frames, but those of runs too short for any chunk. */
  #headroom(): number {
    let frames = 0
    for (const run of this.#free) {
      if (this.#lengthOf(run) >= CHUNK_FRAMES_MAX) frames += this.#lengthOf(run)
    }
    return frames
  }

  /** Moves the hand until it has freed one cached run. Returns false when it found none to free. */
  #freeNext(): boolean {
    return this.#freeNextOf(true) || (this.#guardedFrames > 0 && this.#freeNextOf(false))
  }

  #freeNextOf(sparesGuarded: boolean): boolean {
    // Once around to take the marks away, once more to free.
    for (let walked = 0; walked <= 2 * this.#frameCount; ) {
      const run = this.#hand
      const length = this.#lengthOf(run)
      const block = this.#runBlock[run] ?? RUN_FREE
      this.#hand = (run + length) % this.#frameCount
      walked += length
      const isSpared =
        block >= 0 &&
        (this.#takeMarks(run, length) || (sparesGuarded && this.#runUse[run] === USE_GUARDED))
      const freed = block >= 0 && !isSpared
      if (freed) this.#evict(run, length, block)
      if (!freed && block !== RUN_FREE) this.#freeBehindHand = -1
      else if (!this.#join(this.#freeBehindHand, run)) this.#freeBehindHand = run
      if (freed) return true
    }
    return false
  }

  #evict(run: number, length: number, block: number): void {
    this.#unguard(run, USE_TOLD)
    for (let at = 0; at < length; at += 1) {
      // The same block may have been inserted again elsewhere.
      if (this.#index[block + at] === FRAME_BASE + run + at) this.#index[block + at] = FRAME_ABSENT
    }
    this.#setFree(run, length, this.#epochs.advance())
    this.#free.push(run)
  }

  /** Appends a free run to the one before it, when either is too short for a long chunk. */
  #join(before: number, run: number): boolean {
    const length = this.#lengthOf(before)
    if (before < 0 || this.#runBlock[before] !== RUN_FREE || before + length !== run) return false
    if (Math.min(length, this.#lengthOf(run)) >= CHUNK_FRAMES_MAX) return false
    this.#free.splice(this.#free.indexOf(run), 1)
    this.#setFree(before, length + this.#lengthOf(run), this.#laterEpoch(before, run))
    return true
  }

  #laterEpoch(a: number, b: number): number {
    const [first, second] = [this.#epochOf(a), this.#epochOf(b)]
    if (first === NO_EPOCH || second === NO_EPOCH) return first === NO_EPOCH ? second : first
    return ((first - second) | 0) > 0 ? first : second
  }

  /** Takes the marks of a run away; returns whether it had any. */
  #takeMarks(run: number, length: number): boolean {
    const firstMark = this.#firstMark(run, length)
    if (firstMark === 0) return false
    this.#tell(run, firstMark)
    this.#marks.fill(0, run, run + length)
    return true
  }

  /** The earliest mark of a run; 0 when it has none. */
  #firstMark(run: number, length: number): number {
    let first = 0
    for (let frame = run; frame < run + length; frame += 1) {
      const mark = this.#marks[frame] ?? 0
      if (mark !== 0 && (first === 0 || mark < first)) first = mark
    }
    return first
  }

  #tell(run: number, firstMark: number): void {
    if (firstMark === 0 || this.#runUse[run] === USE_TOLD) return
    this.#unguard(run, USE_TOLD)
    // A mark counts from 1.
    this.#onFirstRead(this.#runBlock[run] ?? 0, firstMark - 1)
  }

  #unguard(run: number, use: number): void {
    if (this.#runUse[run] === USE_GUARDED) this.#guardedFrames -= this.#lengthOf(run)
    this.#runUse[run] = Math.min(this.#runUse[run] ?? USE_TOLD, use)
  }

  #setFree(run: number, length: number, epoch: number): void {
    this.#runLength[run] = length
    this.#runBlock[run] = RUN_FREE
    this.#runEpoch[run] = epoch
  }

  #lengthOf(run: number): number {
    return this.#runLength[run] ?? 0
  }

  #epochOf(run: number): number {
    return this.#runEpoch[run] ?? NO_EPOCH
  }

  #assertReserved({ firstFrame, frameCount }: Reservation): void {
    invariant(
      this.#runBlock[firstFrame] === RUN_RESERVED && this.#lengthOf(firstFrame) === frameCount,
      `frame ${firstFrame} is not reserved`,
    )
  }
}
