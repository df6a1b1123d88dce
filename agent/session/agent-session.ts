/**
 * The agent's side of PROTOCOL.md §3, over any number of connections: says hello on each, keeps what
 * the server answers, and has the same version opened again after a loss. To the fetcher it is one
 * transport that is sometimes away.
 */
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError, isErrorCode } from '#shared/errors.ts'
import { proofText } from '#shared/identity/device-key.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { nameOf } from '#shared/tls/pinned-tls.ts'
import { KiB } from '#shared/units.ts'
import { decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import {
  type BootListEntry,
  CHUNK_LEVEL,
  decodeBootList,
  encodePush,
  encodeRequest,
  encodeTrace,
  FRAME_BOOT_LIST,
  FRAME_CONTROL,
  FRAME_OBJECTS,
  type ObjectHeader,
  type ObjectRequest,
  type PushRange,
  readObjects,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import { FIRST_PUSH_BYTES_MAX, PROTOCOL_VERSION } from '#shared/wire/limits.ts'
import type {
  AgentMessage,
  Hydration,
  Identity,
  Opened,
  ServerMessage,
  Status,
} from '#shared/wire/messages.ts'
import type { ObjectListener, ObjectTransport } from '../fetch/object-transport.ts'
import type { DeviceKey } from '../identity/device-key.ts'
import { verifiedRoot } from './opened-version.ts'
import { ServerLink } from './server-link.ts'
import { ServerTrust } from './server-trust.ts'
import { SESSION_LIMITS, type SessionLimits } from './session-limits.ts'
import { WriteChannel } from './write-channel.ts'

export interface AgentSessionOptions {
  readonly servers: readonly ServerAddress[]
  /** Of the boot script; counts unless the machine knows its servers (`trust`). */
  readonly pin: string
  readonly trust?: ServerTrust
  readonly agentVersion: string
  readonly bootId: string
  readonly facts: MachineFacts
  readonly kernelRelease: string
  /** Seconds since the kernel started. */
  readonly uptimeSeconds: () => number
  /**
   * How much of the boot list the server may push at once when the vDisk is opened first. Default:
   * FIRST_PUSH_BYTES; none is right where the local disk may have it.
   */
  readonly firstPushBytes?: () => number
  /** By which the machine proves who it is; nothing where it has none. Asked for on each connection. */
  readonly key?: () => Promise<DeviceKey | undefined>
  /** Admits this machine. */
  readonly joinToken?: string | undefined
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

interface Challenged {
  readonly key: DeviceKey
  /** The frame that was sent. */
  readonly hello: Uint8Array
  /** Of the connection that it was sent on. */
  readonly binding: Uint8Array
}

/** What waits for an answer to `open`. */
interface PendingOpen {
  readonly wanted: Wanted
  readonly resolve: (opened: Opened) => void
  readonly reject: (error: BootwireError) => void
}

/** What comes while the block layers are opened, some 40 ms: nobody waits behind it yet. */
export const FIRST_PUSH_BYTES: number = 512 * KiB
/** Objects kept until somebody listens; what comes beyond is asked for again. */
const EARLY_BYTES_MAX: number = 2 * FIRST_PUSH_BYTES_MAX

/** Notices kept while there is no connection; a system in trouble says the same again. */
const NOTICES_MAX = 16
/** As `text` in messages.ts. */
const NOTICE_LENGTH_MAX = 1024

export class AgentSession implements ObjectTransport {
  /** By which the server keeps what is written. */
  readonly writes: WriteChannel = new WriteChannel((frame) => this.#link.send(frame))
  /** Which servers this machine believes. */
  readonly trust: ServerTrust
  readonly #options: AgentSessionOptions
  readonly #limits: SessionLimits
  readonly #link: ServerLink
  #connection: ConnectionState
  /** The machine has named its key on this connection. */
  #isChallenged: Challenged | undefined
  #identity: Identity | undefined
  #identityAtMs = 0
  #pendingOpen: PendingOpen | undefined
  #opened: Opened | undefined
  /** Objects may be asked for on this connection. */
  #isOpen = false
  #reopenTimer: NodeJS.Timeout | undefined
  #listener: ObjectListener | undefined
  #onHydrate: (hydration: Hydration) => void = () => undefined
  #firstPushBytes = 0
  /** What came on this connection before anybody listened. */
  #early: Uint8Array[] = []
  #earlyBytes = 0
  readonly #phases: Extract<AgentMessage, { kind: 'phase' }>[] = []
  readonly #notices: Extract<AgentMessage, { kind: 'notice' }>[] = []
  #wireBytesReceived = 0
  #hasReceivedChunk = false
  #changed = Promise.withResolvers<void>()

  constructor(options: AgentSessionOptions) {
    this.#options = options
    this.trust = options.trust ?? new ServerTrust(options.pin)
    this.#limits = { ...SESSION_LIMITS, ...options.limits }
    this.#link = new ServerLink({
      servers: options.servers,
      trust: this.trust,
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

  /** The time by the server's clock, in milliseconds since 1970; undefined before it has told. */
  get serverNowMs(): number | undefined {
    const identity = this.#identity
    return identity && identity.serverTimeMs + performance.now() - this.#identityAtMs
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
    if (this.#connection.isUp) this.#sayOpen(wanted)
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

  /** Gives a connection up on which the server says nothing of use; another one is made. */
  giveUp(why: string): void {
    const { server } = this.#connection
    this.#link.drop(new BootwireError('SERVER_UNREACHABLE', `Lost ${nameOf(server)}: ${why}`))
  }

  /** Ends the session. Returns when the server knows, or cannot be told. */
  async bye(reason: ByeReason): Promise<void> {
    this.#say({ kind: 'bye', reason })
    await this.#link.end(this.#limits.byeTimeoutMs)
    clearTimeout(this.#reopenTimer)
  }

  /** Sets the one who hears when the administrator changes how the rest is fetched. */
  onHydrate(listener: (hydration: Hydration) => void): void {
    this.#onHydrate = listener
  }

  listen(listener: ObjectListener): void {
    this.#listener = listener
    if (!this.#isOpen) return
    listener.onOpen()
    for (const message of this.#takeEarly()) this.#onStream(message)
  }

  request(request: ObjectRequest): void {
    if (this.#isOpen) this.#link.send(encodeRequest(request))
  }

  push(ranges: readonly PushRange[]): void {
    if (this.#isOpen) this.#link.send(encodePush(ranges))
  }

  sendTrace(entries: readonly TraceEntry[]): void {
    if (this.#isOpen) this.#link.send(encodeTrace(entries))
  }

  #onUp(): void {
    this.#isChallenged = undefined
    void this.#hello(this.#link.binding())
  }

  async #hello(binding: Uint8Array | undefined): Promise<void> {
    const { agentVersion, bootId, facts, kernelRelease, uptimeSeconds, joinToken } = this.#options
    const key = await this.#options.key?.()
    // Another connection by now: it says its own.
    if (binding === undefined || binding !== this.#link.binding()) return
    const hello = encodeMessage({
      kind: 'hello',
      protocol: PROTOCOL_VERSION,
      agentVersion,
      bootId,
      facts,
      kernelRelease,
      uptimeSeconds: uptimeSeconds(),
      ...(key && { key: { spki: Buffer.from(key.spki).toString('base64'), place: key.place } }),
      ...(joinToken !== undefined && { joinToken }),
    })
    if (key !== undefined) this.#isChallenged = { key, hello, binding }
    this.#link.send(hello)
  }

  /** Once on a connection, about what was said on it. */
  async #prove(nonce: string): Promise<void> {
    const challenged = this.#isChallenged
    if (challenged === undefined) {
      throw new BootwireError('MESSAGE_INVALID', 'Cannot prove anything: no key was named')
    }
    this.#isChallenged = undefined
    const { key, hello, binding } = challenged
    const text = proofText({ binding, hello, nonce: Buffer.from(nonce, 'base64') })
    const signature = Buffer.from(await key.sign(text)).toString('base64')
    if (binding === this.#link.binding()) this.#say({ kind: 'proof', signature })
  }

  #onMessage(message: Uint8Array): void {
    this.#wireBytesReceived += message.length
    const [type] = message
    if (type === FRAME_CONTROL) return this.#onControl(decodeServerMessage(message))
    if (type === FRAME_OBJECTS || type === FRAME_BOOT_LIST) {
      return this.#listener === undefined ? this.#keepEarly(message) : this.#onStream(message)
    }
    if (this.#isOpen && this.writes.take(message)) return
    throw new BootwireError(
      'MESSAGE_INVALID',
      `Cannot use the server's message: it begins with ${type ?? 'nothing'}`,
    )
  }

  #onStream(message: Uint8Array): void {
    if (!this.#isOpen) {
      throw new BootwireError('MESSAGE_INVALID', 'Cannot use objects: no vDisk is open')
    }
    if (message[0] === FRAME_BOOT_LIST) this.#onBootList(decodeBootList(message))
    else readObjects(message, (header, payload) => this.#onObject(header, payload))
  }

  #onBootList(entries: readonly BootListEntry[]): void {
    this.#listener?.onBootList(entries, firstPushCount(entries, this.#firstPushBytes))
  }

  #onObject(header: ObjectHeader, payload: Uint8Array): void {
    if (!this.#hasReceivedChunk && header.level === CHUNK_LEVEL) {
      this.#hasReceivedChunk = true
      this.phase('first-block')
    }
    this.#listener?.onObject(header, payload)
  }

  /** The server pushes at once; the block layers need a moment to open. */
  #keepEarly(message: Uint8Array): void {
    if (this.#earlyBytes + message.length > EARLY_BYTES_MAX) return
    this.#earlyBytes += message.length
    this.#early.push(Uint8Array.from(message))
  }

  #takeEarly(): Uint8Array[] {
    this.#earlyBytes = 0
    const early = this.#early
    this.#early = []
    return early
  }

  #onControl(message: ServerMessage): void {
    switch (message.kind) {
      case 'challenge':
        void this.#prove(message.nonce).catch((error: unknown) => this.#cannotProve(error))
        return
      case 'identity':
        return this.#onIdentity(message)
      case 'opened':
        return this.#onOpened(message)
      case 'hydrate':
        return this.#onHydrate(message.hydration)
      case 'error':
        return this.#onError(message)
    }
  }

  /** A TPM may fail; another connection is another try. */
  #cannotProve(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error)
    this.#link.drop(new BootwireError('PROOF_INVALID', `Cannot prove who this machine is: ${why}`))
  }

  #onIdentity(identity: Identity): void {
    this.#link.settled()
    this.#identity = identity
    this.#identityAtMs = performance.now()
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
    const wanted = this.#opened ?? this.#pendingOpen?.wanted
    if (wanted === undefined || this.#isOpen || !this.#connection.isUp) return
    this.#sayOpen(wanted)
  }

  #sayOpen({ vdisk, versionId }: Wanted): void {
    const { firstPushBytes } = this.#options
    // What was open before has it already, or asks for it.
    const isFirst = this.#opened === undefined
    this.#firstPushBytes = isFirst ? (firstPushBytes?.() ?? FIRST_PUSH_BYTES) : 0
    const version = { ...(versionId !== undefined && { versionId }) }
    this.#say({ kind: 'open', vdisk, ...version, firstPushBytes: this.#firstPushBytes })
  }

  #onOpened(opened: Opened): void {
    this.#checkOpened(opened)
    try {
      verifiedRoot(opened, this.trust.known)
    } catch (error) {
      if (!(error instanceof BootwireError)) throw error
      return this.#onUntrusted(error)
    }
    const isAgain = this.#opened !== undefined
    this.#opened = opened
    this.#isOpen = true
    const { error: _, ...connection } = this.#connection
    this.#connection = connection
    this.writes.opened(opened)
    this.#pendingOpen?.resolve(opened)
    this.#listener?.onOpen()
    // It may have been changed while the server was away.
    if (isAgain) this.#onHydrate(opened.hydration)
    this.#announceChange()
  }

  /** Nothing else may come than what was asked for: the kernel holds pages of it. */
  #checkOpened({ vdisk, versionId }: Opened): void {
    const wanted: Wanted | undefined = this.#opened ?? this.#pendingOpen?.wanted
    if (wanted === undefined || this.#isOpen) throw unexpectedOpened(vdisk, 'nobody asked')
    // The version's id is the hash of its root: where it is the same, all of it is.
    if (vdisk === wanted.vdisk && versionId === (wanted.versionId ?? versionId)) return
    const { versionId: wantedVersion = 'in production' } = wanted
    throw unexpectedOpened(vdisk, `expected ${wanted.vdisk}, version ${wantedVersion}, unchanged`)
  }

  #onError({ code, message }: { readonly code: string; readonly message: string }): void {
    const error = new BootwireError(isErrorCode(code) ? code : 'INTERNAL', message)
    if (this.#refuse(error)) return
    // A root runs on it: the administrator may bring it back.
    if (this.#opened !== undefined && this.#connection.isUp && !this.#isOpen) {
      this.#reopenLater(() => this.#askToOpen())
    }
  }

  /** The server takes it as open now: it can be asked again only on another connection. */
  #onUntrusted(error: BootwireError): void {
    const drop = () => this.#link.drop(error)
    if (this.#refuse(error)) setImmediate(drop)
    else this.#reopenLater(drop)
  }

  /** Says why the vDisk is not opened. Returns whether somebody waited for it. */
  #refuse(error: BootwireError): boolean {
    if (this.#pendingOpen !== undefined && this.#connection.isUp) {
      this.#pendingOpen.reject(error)
      return true
    }
    this.#connection = { ...this.#connection, error }
    this.#announceChange()
    return false
  }

  #reopenLater(reopen: () => void): void {
    clearTimeout(this.#reopenTimer)
    this.#reopenTimer = setTimeout(reopen, this.#limits.reopenPauseMs)
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
    this.#takeEarly()
    if (this.#isOpen) {
      this.#isOpen = false
      this.writes.lost()
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
