/**
 * One connection of an agent, from its first frame to its last (PROTOCOL.md §3).
 *
 *     hello       nothing said yet; only `hello` is accepted
 *     identified  the client knows who it is; it waits, or opens a vDisk
 *     open        objects are streamed
 *     closed      nothing is sent or accepted any more
 *
 * Control messages are handled one after the other, since most need the database; requests for
 * objects are answered at once, they are accepted only in `open`. Whatever the peer does wrong ends in
 * `#fail`: an `error` message, a close code and a line in the log, never an exception.
 */

import type { Boot } from '#server/clients/boot.ts'
import type { BootLog } from '#server/clients/boot-log.ts'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import { hydrationOf } from '#server/clients/hydration.ts'
import { assertKeepable, writeCacheOf } from '#server/clients/write-cache-settings.ts'
import type { Log } from '#server/log.ts'
import type { VersionRecord } from '#server/state/records.ts'
import type { VersionReader } from '#server/store/chunk-store.ts'
import { hardwareModel } from '#server/traces/hardware-model.ts'
import type { Traces } from '#server/traces/traces.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { decodeAgentMessage, encodeMessage } from '#shared/wire/codec.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import {
  CHUNK_LEVEL,
  decodePush,
  decodeRequest,
  decodeTrace,
  FRAME_CONTROL,
  FRAME_PUSH,
  FRAME_REQUEST,
  FRAME_TRACE,
  type ObjectName,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import { ACCEPTED_PROTOCOLS } from '#shared/wire/limits.ts'
import type { AgentMessage, Hello, Hydration, Open, ServerMessage } from '#shared/wire/messages.ts'
import { BootPush } from './boot-push.ts'
import type { BootSetLease, BootSets } from './boot-sets.ts'
import { CLOSE_CODE, type CloseCode, closeReason } from './close-code.ts'
import { messageOf } from './object-message.ts'
import { ObjectSender } from './object-sender.ts'
import type { OpenVersions, VersionLease } from './open-versions.ts'
import { SerialQueue } from './serial-queue.ts'
import {
  type ClientSettings,
  errorMessage,
  type IdentitySettings,
  identityMessage,
  openedMessage,
} from './session-messages.ts'
import type { SessionTable, TableSession } from './session-table.ts'
import type { SlabPool } from './slab-pool.ts'
import type { UnreadableObjects } from './unreadable-objects.ts'
import { offersFor, permittedVersion, vdiskGone } from './vdisk-access.ts'

/**
 * Control messages of the peer waiting to be handled. After `hello` an agent sends its phases so far in one
 * go; more than this is a flood.
 */
const MESSAGES_WAITING_MAX = 64

/** A boot is traced once; an agent that was restarted may send what it knows again. */
const TRACES_PER_SESSION_MAX = 4

/** Notices of unreadable objects kept for one boot: who sees them looks at the server's log. */
const UNREADABLE_NOTICES_MAX = 3

/** How the log calls the level of a client's notice. */
const LOG_METHOD = { info: 'info', warning: 'warn', error: 'error' } as const

/** The connection, as far as a session knows it. */
export interface SessionSocket {
  /**
   * Takes whole websocket messages. `sent` is called when the network layer is done with the bytes,
   * also after a failure.
   */
  send(messages: Uint8Array, sent: () => void): void
  close(code: number, reason: string): void
  readonly bufferedBytes: number
}

export interface SessionServices {
  readonly registry: Pick<ClientRegistry, 'identify' | 'get' | 'isConfirmed' | 'rememberChoice'>
  readonly catalog: Pick<VDiskCatalog, 'productionVersion' | 'version' | 'tryGet'>
  readonly boots: Pick<BootLog, 'resume' | 'end' | 'save'>
  readonly versions: OpenVersions
  readonly bootSets: Pick<BootSets, 'acquire'>
  readonly traces: Pick<Traces, 'record'>
  readonly unreadable: UnreadableObjects
  readonly slabs: SlabPool
  readonly sessions: SessionTable
  readonly settings: IdentitySettings
  readonly now: () => number
  readonly log: Log
}

export type SessionState = 'hello' | 'identified' | 'open' | 'closed'

/** What a session knows once the agent said hello. */
interface Identified {
  readonly clientId: string
  readonly boot: Boot
  /** Server time at which the client's kernel started, to place its uptimes in time. */
  readonly kernelStartedAtMs: number
  /** The boot had a vDisk open before: a root runs on it and must not be stopped. */
  readonly resumes: boolean
  readonly model: string
}

export class Session implements TableSession {
  readonly #socket: SessionSocket
  readonly #address: string
  readonly #services: SessionServices
  #log: Log
  #state: SessionState = 'hello'
  #identified: Identified | undefined
  #lastIdentity = ''
  #lease: VersionLease | undefined
  #bootSet: BootSetLease | undefined
  #sender: ObjectSender | undefined
  #lastHydration: Hydration | undefined
  #tracesTaken = 0
  #unreadableNotices = 0
  readonly #work = new SerialQueue((error) => this.#fail(error))
  #messagesWaiting = 0

  constructor(socket: SessionSocket, address: string, services: SessionServices) {
    this.#socket = socket
    this.#address = address
    this.#services = services
    this.#log = services.log.child({ address })
  }

  get state(): SessionState {
    return this.#state
  }

  get clientId(): string {
    return this.#known().clientId
  }

  get bootId(): string {
    return this.#known().boot.record.bootId
  }

  get waiting(): boolean {
    return this.#state === 'identified'
  }

  /** Takes one websocket message. */
  receive(frame: Uint8Array): void {
    if (this.#state === 'closed') return
    try {
      this.#take(frame)
    } catch (error) {
      this.#fail(error)
    }
  }

  refresh(): void {
    this.#work.add(() => (this.#state === 'open' ? this.#sendHydration() : this.#sendIdentity()))
  }

  supersede(sameBoot: boolean): void {
    this.#log.info({ sameBoot }, 'another connection of this client takes over')
    this.#close(CLOSE_CODE.superseded, 'another connection of this client took over', {
      boot: sameBoot ? 'goes on' : 'lost',
    })
  }

  /** Ends the session from the server's side; the agent is free to come back. */
  end(code: CloseCode, reason: string): void {
    this.#close(code, reason)
  }

  /** The connection is gone, by the peer or by the network. */
  disconnected(): void {
    if (this.#state !== 'closed') this.#log.info('connection lost')
    this.#finish('lost')
  }

  /** Nothing of use came in time, or what came broke the rules: says so and closes. */
  reject(error: unknown): void {
    this.#fail(error)
  }

  #take(frame: Uint8Array): void {
    switch (frame[0]) {
      case FRAME_CONTROL:
        return this.#enqueueMessage(decodeAgentMessage(frame))
      case FRAME_REQUEST:
        return this.#opened('a request').request(decodeRequest(frame))
      case FRAME_PUSH:
        return this.#opened('a push').push(decodePush(frame))
      case FRAME_TRACE:
        return this.#takeTrace(frame)
      case undefined:
      default:
        throw invalid(`it begins with ${frame[0] ?? 'nothing'}, which is no type of frame`)
    }
  }

  #opened(what: string): ObjectSender {
    if (this.#sender === undefined) throw invalid(`${what} came before a vDisk is open`)
    return this.#sender
  }

  #takeTrace(frame: Uint8Array): void {
    this.#opened('a trace')
    const entries = decodeTrace(frame)
    this.#tracesTaken += 1
    if (this.#tracesTaken > TRACES_PER_SESSION_MAX) return
    const reader = this.#lease?.reader
    invariant(reader !== undefined, 'an open session reads a version')
    this.#record(reader, entries).then(
      () => this.#log.info({ entries: entries.length }, 'the boot was traced'),
      (error: unknown) => this.#log.error({ err: error }, 'cannot keep the trace of a boot'),
    )
  }

  async #record(reader: VersionReader, entries: readonly TraceEntry[]): Promise<void> {
    const { registry, traces } = this.#services
    const { clientId, boot, model } = this.#known()
    const { bootId } = boot.record
    const isConfirmed = await registry.isConfirmed(clientId)
    await traces.record(reader, { bootId, clientId, isConfirmed, model, entries })
  }

  #enqueueMessage(message: AgentMessage): void {
    if (this.#messagesWaiting >= MESSAGES_WAITING_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot queue another message: ${MESSAGES_WAITING_MAX} wait already`,
      )
    }
    this.#messagesWaiting += 1
    this.#work.add(() => {
      this.#messagesWaiting -= 1
      return this.#handle(message)
    })
  }

  #handle(message: AgentMessage): Promise<void> | void {
    if (this.#state === 'closed') return
    if (message.kind === 'hello') return this.#hello(message)
    const { boot, kernelStartedAtMs } = this.#greeted(message.kind)
    const nowMs = this.#services.now()
    switch (message.kind) {
      case 'open':
        return this.#open(message)
      case 'phase':
        // A client's clock may run fast; nothing it reports has happened in the future.
        return boot.stamp(
          message.phase,
          Math.min(nowMs, kernelStartedAtMs + message.uptimeSeconds * 1000),
        )
      case 'status': {
        const { kind: _, ...status } = message
        return boot.reported(status)
      }
      case 'notice': {
        const { level, message: text } = message
        // Only what is kept, so that no client fills the server's disk with its log.
        if (!boot.noticed({ atMs: nowMs, level, message: text })) return
        return this.#log[LOG_METHOD[level]]({ notice: text }, 'notice of the client')
      }
      case 'bye':
        return this.#bye(message.reason)
    }
  }

  async #hello(hello: Hello): Promise<void> {
    if (this.#state !== 'hello') throw invalid('hello was said already')
    if (!ACCEPTED_PROTOCOLS.includes(hello.protocol)) {
      throw new BootwireError(
        'PROTOCOL_VERSION',
        `Cannot talk to agent ${hello.agentVersion}: it speaks protocol ${hello.protocol}, this server ${ACCEPTED_PROTOCOLS.join(', ')}`,
      )
    }
    const { registry, boots, sessions, now } = this.#services
    const kernelStartedAtMs = now() - hello.uptimeSeconds * 1000
    const client = await registry.identify(hello.facts, this.#address)
    const boot = await boots.resume(client.id, hello.bootId, kernelStartedAtMs)
    const resumes = boot.record.versionId !== undefined
    if (this.#isClosed()) {
      if (!boot.attached) await boots.end(boot, 'lost')
      return
    }
    // The connection before is lost, and this server has not noticed.
    if (boot.attached) boot.reconnected()
    boot.attached = true
    const model = hardwareModel(hello.facts)
    this.#identified = { clientId: client.id, boot, kernelStartedAtMs, resumes, model }
    this.#log = this.#log.child({ client: client.hostname, bootId: hello.bootId })
    this.#log.info({ state: client.state, kernel: hello.kernelRelease, resumes }, 'session')
    this.#state = 'identified'
    sessions.enter(this)
    await this.#sendIdentity()
  }

  async #sendIdentity(): Promise<void> {
    if (this.#state !== 'identified') return
    const { clientId, boot, resumes } = this.#known()
    const client = await this.#services.registry.get(clientId)
    if (client === undefined) {
      return this.#close(CLOSE_CODE.serviceRestart, 'this client was removed; say hello again')
    }
    const state = resumes ? 'approved' : client.state
    const offers = await offersFor(client, this.#services.catalog)
    const nowMs = this.#services.now()
    const identity = identityMessage({ client, state, offers, nowMs }, this.#services.settings)
    // Time passes, and that is no news.
    const news = JSON.stringify({ ...identity, serverTimeMs: 0 })
    if (this.#isClosed() || news === this.#lastIdentity) return
    this.#lastIdentity = news
    this.#send(identity)
    if (state === 'approved') boot.stamp('identified', nowMs)
  }

  async #open(message: Open): Promise<void> {
    if (this.#state === 'open') throw invalid('a vDisk is open already')
    const { registry, catalog } = this.#services
    const { clientId, boot } = this.#known()
    const { vdisk, versionId, firstPushBytes } = message
    try {
      const client = await registry.get(clientId)
      const request = { vdisk, versionId }
      const version = await permittedVersion(request, client, boot.record, catalog)
      const writeCache = writeCacheOf(client, (await catalog.tryGet(vdisk))?.record)
      assertKeepable(writeCache)
      await this.#stream(version, { hydration: hydrationOf(client), writeCache }, firstPushBytes)
    } catch (error) {
      if (!(error instanceof BootwireError)) throw error
      this.#log.warn({ vdisk, versionId, code: error.code }, error.message)
      this.#send(errorMessage(error)) // the session stays: the administrator may mend it
    }
  }

  async #stream(
    version: VersionRecord,
    settings: ClientSettings,
    firstPushBytes: number,
  ): Promise<void> {
    const { versions, bootSets, registry, boots, catalog } = this.#services
    const { vdisk, versionId } = version
    await using opened = new AsyncDisposableStack()
    const lease = opened.adopt(await versions.acquire(versionId), (it) => it.release())
    if (this.#isClosed()) return
    const { clientId, boot } = this.#known()
    boot.opened(vdisk, versionId)
    const acquiring = bootSets.acquire(lease.reader)
    opened.defer(async () => (await acquiring)?.release()) // before what it reads is closed
    // Durable before a root runs on it: whatever happens, this boot gets the same version again.
    // Looked for again, as whoever removes it looks for its boots again: one sees the other.
    const [bootSet, , found] = await Promise.all([
      acquiring,
      boots.save(),
      catalog.version(vdisk, versionId),
    ])
    if (this.#isClosed()) return
    if (found === undefined) throw vdiskGone(vdisk)
    opened.move() // from now on `#finish` gives them back
    this.#lease = lease
    this.#bootSet = bootSet
    this.#state = 'open'
    this.#lastHydration = settings.hydration
    this.#send(openedMessage(version, lease.reader, settings))
    this.#log.info({ vdisk, versionId }, 'vDisk opened')
    this.#startSending(lease, bootSet, firstPushBytes)
    await registry.rememberChoice(clientId, vdisk).catch((error: unknown) => {
      this.#log.error({ err: error }, 'cannot remember the choice of the client')
    })
  }

  #startSending(
    { reader }: VersionLease,
    bootSet: BootSetLease | undefined,
    firstPushBytes: number,
  ): void {
    const sender = new ObjectSender({
      reader,
      slabs: this.#services.slabs,
      send: (messages, sent) => this.#sendMessages(messages, sent),
      bufferedBytes: () => this.#socket.bufferedBytes,
      onUnreadable: (name, error) => this.#unreadable(name, error),
      push: bootSet && new BootPush(bootSet.set, reader),
    })
    this.#sender = sender
    if (bootSet === undefined) return
    const { listFrame, entries } = bootSet.set.layout
    this.#sendMessages(messageOf(listFrame), () => undefined)
    const end = firstPushCount(entries, firstPushBytes)
    if (end > 0) sender.push([{ begin: 0, end }])
  }

  /** Tells the agent when the administrator changed how the rest of the vDisk is fetched. */
  async #sendHydration(): Promise<void> {
    const hydration = hydrationOf(await this.#services.registry.get(this.#known().clientId))
    const last = this.#lastHydration
    const isNews =
      last?.mode !== hydration.mode || last.rateBytesPerSecond !== hydration.rateBytesPerSecond
    if (this.#isClosed() || !isNews) return
    this.#lastHydration = hydration
    this.#send({ kind: 'hydrate', hydration })
  }

  #bye(reason: 'poweroff' | 'reboot' | 'halt' | 'kexec'): void {
    const { boot } = this.#known()
    if (reason !== 'kexec') boot.stamp('shutdown', this.#services.now())
    this.#log.info({ reason }, 'client has shut down')
    this.#close(CLOSE_CODE.normal, '', { boot: reason })
  }

  #unreadable({ level, position }: ObjectName, error: unknown): void {
    const versionId = this.#lease?.reader.versionId ?? ''
    const { boot } = this.#known()
    this.#services.unreadable.note({ versionId, level, position }, error)
    if (this.#unreadableNotices >= UNREADABLE_NOTICES_MAX) return
    this.#unreadableNotices += 1
    const what = level === CHUNK_LEVEL ? `chunk ${position}` : `node ${level}/${position}`
    const message = `The server cannot read ${what} of this version; see its log and run "bootwire check"`
    boot.noticed({ atMs: this.#services.now(), level: 'error', message })
  }

  #fail(error: unknown): void {
    if (this.#state === 'closed') return
    if (error instanceof BootwireError) this.#log.warn({ code: error.code }, error.message)
    else this.#log.error({ err: error }, 'session failed')
    const message = errorMessage(error)
    this.#send(message)
    this.#close(closeCodeOf(error), `${message.code}: ${message.message}`)
  }

  #send(message: ServerMessage): void {
    this.#sendMessages(messageOf(encodeMessage(message)), () => undefined)
  }

  #sendMessages(messages: Uint8Array, sent: () => void): void {
    if (this.#state === 'closed') return sent()
    this.#identified?.boot.addWireBytes(messages.length)
    this.#socket.send(messages, sent)
  }

  #close(
    code: CloseCode,
    reason: string,
    options: { readonly boot: BootOutcome } = { boot: 'lost' },
  ): void {
    if (this.#state === 'closed') return
    this.#finish(options.boot)
    this.#socket.close(code, closeReason(reason))
  }

  #finish(outcome: BootOutcome): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#sender?.close()
    this.#bootSet?.release()
    this.#lease?.release()
    if (this.#identified === undefined) return
    this.#services.sessions.leave(this)
    if (outcome !== 'goes on') void this.#services.boots.end(this.#identified.boot, outcome)
  }

  /** For use after an await, where the compiler would believe the state to be unchanged. */
  #isClosed(): boolean {
    return this.#state === 'closed'
  }

  #greeted(kind: string): Identified {
    if (this.#identified === undefined) throw invalid(`${kind} came before hello`)
    return this.#identified
  }

  #known(): Identified {
    invariant(this.#identified !== undefined, 'the session has not identified its client')
    return this.#identified
  }
}

/** What becomes of the boot when its session ends. */
type BootOutcome = 'goes on' | 'lost' | 'poweroff' | 'reboot' | 'halt' | 'kexec'

function closeCodeOf(error: unknown): CloseCode {
  if (!(error instanceof BootwireError)) return CLOSE_CODE.internalError
  if (error.code === 'MESSAGE_INVALID' || error.code === 'PROTOCOL_VERSION') {
    return CLOSE_CODE.protocolError
  }
  return error.code === 'LIMIT_EXCEEDED' ? CLOSE_CODE.tryAgainLater : CLOSE_CODE.internalError
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the agent's message: ${why}`)
}
