/** The server as a place for what this client writes: a connection that is sometimes away. */
import type { ReadBack, ReadBackAnswer, WriteRecord, Written } from '#shared/wire/write-frames.ts'

export interface WriteListener {
  /** Writes are taken; what was on its way on another connection is not. */
  onOpen(roomBytes: number): void
  onLost(): void
  onWritten(written: Written): void
  /** `bytes` are valid during the call only. */
  onBlocks(answer: ReadBackAnswer): void
}

export interface WriteTransport {
  /** Sets the one who hears; `onOpen` is called at once when writes are taken already. */
  listenWrites(listener: WriteListener): void
  /** Sequences rise on a connection, from 1. Nothing happens while there is none. */
  write(sequence: number, records: readonly WriteRecord[]): void
  readBack(wanted: ReadBack): void
}
