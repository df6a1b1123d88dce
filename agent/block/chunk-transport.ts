/**
 * What the chunk fetcher needs of a session with a server; the stream implements it. A transport
 * lives as long as the vDisk is open, over any number of lost and renewed connections.
 */
import type { ChunkHeader, ChunkRequest } from '#shared/wire/frame.ts'

export interface ChunkListener {
  /**
   * The version is open on a new connection: from now on `request` sends. Answers to requests made
   * on an earlier connection never come; the listener makes them again.
   */
  onOpen(): void
  /** The connection is gone; requests are dropped until the next `onOpen`. */
  onLost(): void
  /**
   * An answer. `payload` is only valid during the call: the transport receives the next chunk into
   * the same memory. Must not throw whatever the server sent.
   */
  onChunk(header: ChunkHeader, payload: Uint8Array): void
}

export interface ChunkTransport {
  /** Sets the one listener; calls its `onOpen` at once (during the call) when a connection is open. */
  listen(listener: ChunkListener): void
  /**
   * Sends one request, in the order of the calls. The caller keeps to `REQUESTS_IN_FLIGHT_MAX` and
   * never uses a request id twice. Does nothing while no connection is open.
   */
  request(request: ChunkRequest): void
}
