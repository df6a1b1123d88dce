/**
 * What the fetcher needs of a session with a server; the session implements it. A transport lives as
 * long as the vDisk is open, over any number of lost and renewed connections.
 */
import type {
  BootListEntry,
  ObjectHeader,
  ObjectRequest,
  PushRange,
  TraceEntry,
} from '#shared/wire/frame.ts'

export interface ObjectListener {
  /**
   * The version is open on a new connection: from now on `request` sends. Answers to requests made
   * on an earlier connection never come; the listener makes them again.
   */
  onOpen(): void
  /** The connection is gone; requests are dropped until the next `onOpen`. */
  onLost(): void
  /** Comes right after `onOpen`, unless the server has no list. `pushed` entries are on their way. */
  onBootList(entries: readonly BootListEntry[], pushed: number): void
  /**
   * An object, asked for or pushed. `payload` is only valid during the call: the transport receives
   * the next one into the same memory. Must not throw whatever the server sent.
   */
  onObject(header: ObjectHeader, payload: Uint8Array): void
}

export interface ObjectTransport {
  /** Sets the one listener; calls its `onOpen` at once (during the call) when a connection is open. */
  listen(listener: ObjectListener): void
  /**
   * Sends one request, in the order of the calls. The caller keeps to `OBJECTS_IN_FLIGHT_MAX`. Does
   * nothing while no connection is open, as all that follow.
   */
  request(request: ObjectRequest): void
  push(ranges: readonly PushRange[]): void
  sendTrace(entries: readonly TraceEntry[]): void
}
