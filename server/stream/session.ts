/**
 * One connection of an agent, from its first frame to its last (PROTOCOL.md §3).
 *
 *     hello       nothing said yet; only `hello` is accepted
 *     identified  the client knows who it is; it waits, or opens a vDisk
 *     open        chunks are streamed
 *     closed      nothing is sent or accepted any more
 *
 * Control messages are handled one after the other, since most need the database; chunk requests
 * are answered at once, they are accepted only in `open`. Whatever the peer does wrong ends in
 * `#fail`: an `error` message, a close code and a line in the log, never an exception.
 */

import type { Boot } from '#server/clients/boot.ts'
import type { BootLog } from '#server/clients/boot-log.ts'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import type { Log } from '#server/log.ts'
import type { VersionRecord } from '#server/state/records.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { decodeAgentMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  type ChunkRequest,
  decodeChunkRequest,
  FRAME_CHUNK_REQUEST,
  FRAME_CONTROL,
} from '#shared/wire/frame.ts'
import { ACCEPTED_PROTOCOLS } from '#shared/wire/limits.ts'
import type { AgentMessage, Hello, ServerMessage } from '#shared/wire/messages.ts'
import { ChunkSender } from './chunk-sender.ts'
import { CLOSE_CODE, type CloseCode, closeReason } from './close-code.ts'
import type { FramePool } from './frame-pool.ts'
import type { OpenVersions, VersionLease } from './open-versions.ts'
import { SerialQueue } from './serial-queue.ts'
import {
  errorMessage,
  type IdentitySettings,
  identityMessage,
  openedMessage,
} from './session-messages.ts'
import type { SessionTable, TableSession } from './session-table.ts'
import { offersFor, permittedVersion } from './vdisk-access.ts'

/**
 * Control messages of the peer waiting to be handled. After `hello` an agent sends its phases so far in one
 * go; more than this is a flood.
 */
const MESSAGES_WAITING_MAX = 64

/** How the log calls the level of a client's notice. */
const LOG_METHOD = { info: 'info', warning: 'warn', error: 'error' } as const

/** The connection, as far as a session knows it. */
export interface SessionSocket {
  /** `sent` is called when the network layer is done with the bytes, also after a failure. */
  send(frame: Uint8Array, sent: () => void): void
  close(code: number, reason: string): void
  readonly bufferedBytes: number
}

export interface SessionServices {
  readonly registry: Pick<ClientRegistry, 'identify' | 'get' | 'rememberChoice'>
  readonly catalog: Pick<VDiskCatalog, 'productionVersion' | 'version' | 'tryGet'>
  readonly boots: Pick<BootLog, 'resume' | 'end' | 'save'>
  readonly versions: OpenVersions
  readonly frames: FramePool
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
  #sender: ChunkSender | undefined
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
      if (frame[0] === FRAME_CHUNK_REQUEST) this.#requestChunk(decodeChunkRequest(frame))
      else if (frame[0] === FRAME_CONTROL) this.#enqueueMessage(decodeAgentMessage(frame))
      else throw invalid(`it begins with ${frame[0] ?? 'nothing'}, expected a frame type of 1 or 2`)
    } catch (error) {
      this.#fail(error)
    }
  }

  refresh(): void {
    this.#work.add(() => this.#sendIdentity())
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

  #requestChunk(request: ChunkRequest): void {
    if (this.#sender === undefined) throw invalid('a chunk is asked for before a vDisk is open')
    this.#sender.request(request)
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
        return this.#open(message.vdisk, message.versionId)
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
    boot.attached = true
    this.#identified = { clientId: client.id, boot, kernelStartedAtMs, resumes }
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

  async #open(vdisk: string, versionId: string | undefined): Promise<void> {
    if (this.#state === 'open') throw invalid('a vDisk is open already')
    const { registry, catalog } = this.#services
    const { clientId, boot } = this.#known()
    try {
      const client = await registry.get(clientId)
      await this.#stream(await permittedVersion({ vdisk, versionId }, client, boot.record, catalog))
    } catch (error) {
      if (!(error instanceof BootwireError)) throw error
      this.#log.warn({ vdisk, versionId, code: error.code }, error.message)
      this.#send(errorMessage(error)) // the session stays: the administrator may mend it
    }
  }

  async #stream(version: VersionRecord): Promise<void> {
    const { versions, registry, boots } = this.#services
    const lease = await versions.acquire(version.versionId)
    if (this.#isClosed()) return lease.release()
    this.#lease = lease
    const { clientId, boot } = this.#known()
    boot.opened(version.vdisk, version.versionId)
    // Durable before a root runs on it: whatever happens, this boot gets the same version again.
    await boots.save()
    if (this.#isClosed()) return
    this.#sender = this.#createSender(lease)
    this.#state = 'open'
    this.#send(openedMessage(version, lease.reader.chunkBytes))
    this.#log.info({ vdisk: version.vdisk, versionId: version.versionId }, 'vDisk opened')
    await registry.rememberChoice(clientId, version.vdisk).catch((error: unknown) => {
      this.#log.error({ err: error }, 'cannot remember the choice of the client')
    })
  }

  #createSender({ reader }: VersionLease): ChunkSender {
    return new ChunkSender({
      reader,
      frames: this.#services.frames,
      send: (frame, sent) => this.#sendFrame(frame, sent),
      bufferedBytes: () => this.#socket.bufferedBytes,
      onFailure: (error, request) => this.#failChunk(error, request),
    })
  }

  #bye(reason: 'poweroff' | 'reboot' | 'halt' | 'kexec'): void {
    const { boot } = this.#known()
    if (reason !== 'kexec') boot.stamp('shutdown', this.#services.now())
    this.#log.info({ reason }, 'client has shut down')
    this.#close(CLOSE_CODE.normal, '', { boot: reason })
  }

  #failChunk(error: unknown, { requestId, chunkIndex }: ChunkRequest): void {
    this.#log.error({ err: error, chunkIndex }, 'cannot read a chunk')
    const code = error instanceof BootwireError ? error.code : 'INTERNAL'
    this.#fail(
      new BootwireError(
        code,
        `Cannot answer request ${requestId}: chunk ${chunkIndex} is unreadable`,
      ),
    )
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
    this.#sendFrame(encodeMessage(message), () => undefined)
  }

  #sendFrame(frame: Uint8Array, sent: () => void): void {
    if (this.#state === 'closed') return sent()
    this.#identified?.boot.addWireBytes(frame.length)
    this.#socket.send(frame, sent)
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
