/**
 * The agent's side of PROTOCOL.md §3, over any number of connections: says hello on each, keeps what
 * the server answers, and has the same version opened again after a loss. To the chunk fetcher it is
 * one transport that is sometimes away.
 */
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError, isErrorCode } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  CHUNK_HEADER_BYTES,
  type ChunkRequest,
  decodeChunkHeader,
  encodeChunkRequest,
  FRAME_CHUNK,
  FRAME_CONTROL,
} from '#shared/wire/frame.ts'
import { PROTOCOL_VERSION } from '#shared/wire/limits.ts'
import type {
  AgentMessage,
  Identity,
  Opened,
  ServerMessage,
  Status,
} from '#shared/wire/messages.ts'
import type { ChunkListener, ChunkTransport } from '../block/chunk-transport.ts'
import { ServerLink } from './server-link.ts'
import { SESSION_LIMITS, type SessionLimits } from './session-limits.ts'

export interface AgentSessionOptions {
  readonly servers: readonly ServerAddress[]
  readonly pin: string
  readonly agentVersion: string
  readonly bootId: string
  readonly facts: MachineFacts
  readonly kernelRelease: string
  /** Seconds since the kernel started. */
  readonly uptimeSeconds: () => number
  /** Those that are left out are as in SESSION_LIMITS. */
  readonly limits?: Partial<SessionLimits>
}

export interface ConnectionState {
  /** Whether the server has answered `hello` on the connection there is. */
  readonly isUp: boolean
  readonly server: ServerAddress
  /** `performance.now()` since when. */
  readonly sinceMs: number
  /** Why the last connection was lost or could not be made, or what the server refuses on this one. */
  readonly error?: BootwireError
}

type ByeReason = Extract<AgentMessage, { kind: 'bye' }>['reason']
type NoticeLevel = Extract<AgentMessage, { kind: 'notice' }>['level']

interface Wanted {
  readonly vdisk: string
  readonly versionId?: string
}

/** What waits for an answer to `open`. */
interface PendingOpen {
  readonly wanted: Wanted
  readonly resolve: (opened: Opened) => void
  readonly reject: (error: BootwireError) => void
}

/** Notices kept while there is no connection; a system in trouble says the same again. */
const NOTICES_MAX = 16
/** As `text` in messages.ts. */
const NOTICE_LENGTH_MAX = 1024

export class AgentSession implements ChunkTransport {
  readonly #options: AgentSessionOptions
  readonly #limits: SessionLimits
  readonly #link: ServerLink
  #connection: ConnectionState
  #identity: Identity | undefined
  #pendingOpen: PendingOpen | undefined
  #opened: Opened | undefined
  /** Chunks may be asked for on this connection. */
  #isOpen = false
  #reopenTimer: NodeJS.Timeout | undefined
  #listener: ChunkListener | undefined
  readonly #phases: Extract<AgentMessage, { kind: 'phase' }>[] = []
  readonly #notices: Extract<AgentMessage, { kind: 'notice' }>[] = []
  #wireBytesReceived = 0
  #hasReceivedChunk = false
  #changed = Promise.withResolvers<void>()

  constructor(options: AgentSessionOptions) {
    this.#options = options
    this.#limits = { ...SESSION_LIMITS, ...options.limits }
    this.#link = new ServerLink({
      servers: options.servers,
      pin: options.pin,
      handler: {
        onUp: () => this.#onUp(),
        onMessage: (message) => this.#onMessage(message),
        onDown: (error) => this.#onDown(error),
      },
      limits: this.#limits,
    })
    this.#connection = { isUp: false, server: this.#link.server, sinceMs: performance.now() }
  }

  get connection(): ConnectionState {
    return this.#connection
  }

  /** What the server last said of this machine; kept while the server is away. */
  get identity(): Identity | undefined {
    return this.#identity
  }

  /** Whether the vDisk is open: not while the server is away, nor while it refuses to open it again. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Messages of the server, all connections together. */
  get wireBytesReceived(): number {
    return this.#wireBytesReceived
  }

  start(): void {
    this.#link.start()
  }

  /** Settles at the next change of `connection`, `identity` or `isOpen`. */
  changed(): Promise<void> {
    return this.#changed.promise
  }

  /** Goes on with a vDisk that an earlier process of this boot had open. Call before `start`. */
  resume(opened: Opened): void {
    this.#opened = opened
  }

  /**
   * Opens a vDisk, once in the life of a session; waits while the server is away.
   * @throws {BootwireError} what the server answers, as VDISK_GONE
   * @throws what the signal was aborted with
   */
  async open(wanted: Wanted, signal: AbortSignal): Promise<Opened> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Opened>()
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#pendingOpen = { wanted, resolve, reject }
    if (this.#connection.isUp) this.#say({ kind: 'open', ...wanted })
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#pendingOpen = undefined
    }
  }

  /** Stamps a step of the boot, now or at another uptime; the server learns it even if it is away now. */
  phase(phase: BootPhase, uptimeSeconds: number = this.#options.uptimeSeconds()): void {
    const message = { kind: 'phase', phase, uptimeSeconds } as const
    this.#phases.push(message)
    if (this.#connection.isUp) this.#say(message)
  }

  notice(level: NoticeLevel, text: string): void {
    const message = { kind: 'notice', level, message: text.slice(0, NOTICE_LENGTH_MAX) } as const
    if (this.#connection.isUp) return this.#say(message)
    this.#notices.push(message)
    if (this.#notices.length > NOTICES_MAX) this.#notices.shift()
  }

  /** Tells counters; of interest now or never. */
  status(status: Omit<Status, 'kind' | 'wireBytesReceived'>): void {
    if (!this.#connection.isUp) return
    this.#say({ kind: 'status', ...status, wireBytesReceived: this.#wireBytesReceived })
  }

  /** Ends the session. Returns when the server knows, or cannot be told. */
  async bye(reason: ByeReason): Promise<void> {
    this.#say({ kind: 'bye', reason })
    await this.#link.end(this.#limits.byeTimeoutMs)
    clearTimeout(this.#reopenTimer)
  }

  listen(listener: ChunkListener): void {
    this.#listener = listener
    if (this.#isOpen) listener.onOpen()
  }

  request(request: ChunkRequest): void {
    if (this.#isOpen) this.#link.send(encodeChunkRequest(request))
  }

  #onUp(): void {
    const { agentVersion, bootId, facts, kernelRelease, uptimeSeconds } = this.#options
    this.#say({
      kind: 'hello',
      protocol: PROTOCOL_VERSION,
      agentVersion,
      bootId,
      facts,
      kernelRelease,
      uptimeSeconds: uptimeSeconds(),
    })
  }

  #onMessage(message: Uint8Array): void {
    this.#wireBytesReceived += message.length
    const [type] = message
    if (type === FRAME_CHUNK) return this.#onChunk(message)
    if (type === FRAME_CONTROL) return this.#onControl(decodeServerMessage(message))
    throw new BootwireError(
      'MESSAGE_INVALID',
      `Cannot use the server's message: it begins with ${type ?? 'nothing'}`,
    )
  }

  #onChunk(message: Uint8Array): void {
    const header = decodeChunkHeader(message)
    if (!this.#hasReceivedChunk) {
      this.#hasReceivedChunk = true
      this.phase('first-block')
    }
    this.#listener?.onChunk(header, message.subarray(CHUNK_HEADER_BYTES))
  }

  #onControl(message: ServerMessage): void {
    switch (message.kind) {
      case 'identity':
        return this.#onIdentity(message)
      case 'opened':
        return this.#onOpened(message)
      case 'error':
        return this.#onError(message)
    }
  }

  #onIdentity(identity: Identity): void {
    this.#link.settled()
    this.#identity = identity
    if (!this.#connection.isUp) this.#greeted()
    this.#announceChange()
  }

  /** The first answer on a new connection. */
  #greeted(): void {
    this.#connection = { isUp: true, server: this.#link.server, sinceMs: performance.now() }
    for (const message of this.#phases) this.#say(message)
    for (const message of this.#notices.splice(0)) this.#say(message)
    this.#askToOpen()
  }

  #askToOpen(): void {
    const { vdisk, versionId } = this.#opened ?? this.#pendingOpen?.wanted ?? {}
    if (vdisk === undefined || this.#isOpen || !this.#connection.isUp) return
    this.#say({ kind: 'open', vdisk, ...(versionId !== undefined && { versionId }) })
  }

  #onOpened(opened: Opened): void {
    this.#checkOpened(opened)
    this.#opened = opened
    this.#isOpen = true
    const { error: _, ...connection } = this.#connection
    this.#connection = connection
    this.#pendingOpen?.resolve(opened)
    this.#listener?.onOpen()
    this.#announceChange()
  }

  /** Nothing else may come than what was asked for: the kernel holds pages of it. */
  #checkOpened({ vdisk, versionId, sizeBytes, chunkBytes }: Opened): void {
    const wanted: (Wanted & Partial<Opened>) | undefined = this.#opened ?? this.#pendingOpen?.wanted
    if (wanted === undefined || this.#isOpen) throw unexpectedOpened(vdisk, 'nobody asked')
    const isSame =
      vdisk === wanted.vdisk &&
      versionId === (wanted.versionId ?? versionId) &&
      sizeBytes === (wanted.sizeBytes ?? sizeBytes) &&
      chunkBytes === (wanted.chunkBytes ?? chunkBytes)
    if (isSame) return
    const { versionId: wantedVersion = 'in production' } = wanted
    throw unexpectedOpened(vdisk, `expected ${wanted.vdisk}, version ${wantedVersion}, unchanged`)
  }

  #onError({ code, message }: { readonly code: string; readonly message: string }): void {
    const error = new BootwireError(isErrorCode(code) ? code : 'INTERNAL', message)
    if (this.#pendingOpen !== undefined && this.#connection.isUp) {
      return this.#pendingOpen.reject(error)
    }
    this.#connection = { ...this.#connection, error }
    this.#announceChange()
    // A root runs on it: the administrator may bring it back.
    if (this.#opened !== undefined && this.#connection.isUp && !this.#isOpen) this.#reopenLater()
  }

  #reopenLater(): void {
    clearTimeout(this.#reopenTimer)
    this.#reopenTimer = setTimeout(() => this.#askToOpen(), this.#limits.reopenPauseMs)
  }

  #onDown(error: BootwireError): void {
    const { isUp: wasUp, sinceMs } = this.#connection
    this.#connection = {
      isUp: false,
      server: this.#link.server,
      sinceMs: wasUp ? performance.now() : sinceMs,
      error: fuller(this.#connection.error, error),
    }
    clearTimeout(this.#reopenTimer)
    if (this.#isOpen) {
      this.#isOpen = false
      this.#listener?.onLost()
    }
    this.#announceChange()
  }

  #announceChange(): void {
    const changed = this.#changed
    this.#changed = Promise.withResolvers()
    changed.resolve()
  }

  #say(message: AgentMessage): void {
    this.#link.send(encodeMessage(message))
  }
}

/** A close frame has room for the beginning of what an `error` before it said in full. */
function fuller(said: BootwireError | undefined, closed: BootwireError): BootwireError {
  return said?.code === closed.code && said.message.startsWith(closed.message) ? said : closed
}

function unexpectedOpened(vdisk: string, why: string): BootwireError {
  return new BootwireError(
    'MESSAGE_INVALID',
    `Cannot use vDisk "${vdisk}", which the server opened: ${why}`,
  )
}
