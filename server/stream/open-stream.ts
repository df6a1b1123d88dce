/**
 * A session's vDisk while it is open: what the agent asks for and is pushed, what it tells of its boot, and
 * what it writes. The session gives it every frame that is no control message.
 */
import type { Boot } from '#server/clients/boot.ts'
import type { Log } from '#server/log.ts'
import { BootwireError } from '#shared/errors.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import {
  CHUNK_LEVEL,
  decodePush,
  decodeRequest,
  decodeTrace,
  FRAME_PUSH,
  FRAME_REQUEST,
  FRAME_TRACE,
  type ObjectName,
} from '#shared/wire/frame.ts'
import { FRAME_READ_BACK, FRAME_WRITE } from '#shared/wire/write-frames.ts'
import { BootPush } from './boot-push.ts'
import type { BootSetLease } from './boot-sets.ts'
import { messageOf } from './object-message.ts'
import { ObjectSender } from './object-sender.ts'
import type { VersionLease } from './open-versions.ts'
import type { SessionServices } from './session.ts'
import type { WriteLane } from './write-lane.ts'

/** A boot is traced once; an agent that was restarted may send what it knows again. */
const TRACES_PER_SESSION_MAX = 4

/** Notices of unreadable objects kept for one boot: who sees them looks at the server's log. */
const UNREADABLE_NOTICES_MAX = 3

export interface OpenStreamParts {
  /** These are the stream's from now on. */
  readonly lease: VersionLease
  readonly bootSet: BootSetLease | undefined
  readonly writes: WriteLane | undefined
  readonly boot: Boot
  /** Of the client's hardware. */
  readonly model: string
  readonly services: Pick<SessionServices, 'registry' | 'traces' | 'unreadable' | 'slabs' | 'now'>
  readonly log: Log
  readonly send: (messages: Uint8Array, sent: () => void) => void
  readonly bufferedBytes: () => number
}

export class OpenStream {
  readonly #parts: OpenStreamParts
  readonly #sender: ObjectSender
  #tracesTaken = 0
  #unreadableNotices = 0

  constructor(parts: OpenStreamParts) {
    this.#parts = parts
    const { lease, bootSet, services, send, bufferedBytes } = parts
    this.#sender = new ObjectSender({
      reader: lease.reader,
      slabs: services.slabs,
      send,
      bufferedBytes,
      onUnreadable: (name, error) => this.#unreadable(name, error),
      push: bootSet && new BootPush(bootSet.set, lease.reader),
    })
  }

  /** Sends the boot list, and pushes so much of it unasked. */
  start(firstPushBytes: number): void {
    const { bootSet, send } = this.#parts
    if (bootSet === undefined) return
    const { listFrame, entries } = bootSet.set.layout
    send(messageOf(listFrame), () => undefined)
    const end = firstPushCount(entries, firstPushBytes)
    if (end > 0) this.#sender.push([{ begin: 0, end }])
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED */
  take(frame: Uint8Array): void {
    switch (frame[0]) {
      case FRAME_REQUEST:
        return this.#sender.request(decodeRequest(frame))
      case FRAME_PUSH:
        return this.#sender.push(decodePush(frame))
      case FRAME_TRACE:
        return this.#takeTrace(frame)
      case FRAME_WRITE:
      case FRAME_READ_BACK:
        return this.#writable().take(frame)
      case undefined:
      default:
        throw invalid(`it begins with ${frame[0] ?? 'nothing'}, which is no type of frame`)
    }
  }

  /** Returns when what the client wrote is closed, too. */
  async close(): Promise<void> {
    const { bootSet, lease, writes, log } = this.#parts
    this.#sender.close()
    bootSet?.release()
    lease.release()
    await writes?.close().catch((error: unknown) => {
      log.error({ err: error }, 'cannot close what a client has written')
    })
  }

  #writable(): WriteLane {
    const { writes } = this.#parts
    if (writes === undefined) throw invalid('this server takes nothing of what it writes')
    return writes
  }

  #takeTrace(frame: Uint8Array): void {
    const { log } = this.#parts
    const entries = decodeTrace(frame)
    this.#tracesTaken += 1
    if (this.#tracesTaken > TRACES_PER_SESSION_MAX) return
    this.#record(entries).then(
      () => log.info({ entries: entries.length }, 'the boot was traced'),
      (error: unknown) => log.error({ err: error }, 'cannot keep the trace of a boot'),
    )
  }

  async #record(entries: ReturnType<typeof decodeTrace>): Promise<void> {
    const { lease, boot, model, services } = this.#parts
    const { bootId, clientId } = boot.record
    const isConfirmed = await services.registry.isConfirmed(clientId)
    await services.traces.record(lease.reader, { bootId, clientId, isConfirmed, model, entries })
  }

  #unreadable({ level, position }: ObjectName, error: unknown): void {
    const { lease, boot, services } = this.#parts
    services.unreadable.note({ versionId: lease.reader.versionId, level, position }, error)
    if (this.#unreadableNotices >= UNREADABLE_NOTICES_MAX) return
    this.#unreadableNotices += 1
    const what = level === CHUNK_LEVEL ? `chunk ${position}` : `node ${level}/${position}`
    const message = `The server cannot read ${what} of this version; see its log and run "bootwire check"`
    boot.noticed({ atMs: services.now(), level: 'error', message })
  }
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the agent's message: ${why}`)
}
