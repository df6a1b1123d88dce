/** Asks the running server, over its administration socket or from afar. */
import {
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestOptions,
  request,
} from 'node:http'
import type { Socket } from 'node:net'
import { userInfo } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import {
  type AnswerLine,
  CALLER_HEADER,
  type ErrorView,
  type ImportOptions,
  type ImportProgress,
  type ImportRequest,
  type ImportResult,
} from '#server/admin/admin-api.ts'
import { ContentDecoder, type ContentHead, type ContentPart } from '#server/admin/content-frames.ts'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError, isErrorCode } from '#shared/errors.ts'
import { connectPinned, nameOf } from '#shared/tls/pinned-tls.ts'

export type Method = 'GET' | 'POST' | 'DELETE'

/** What `content` gives. */
export interface Content {
  readonly head: ContentHead
  readonly parts: AsyncIterable<ContentPart>
  readonly close: () => void
}

export interface RemoteTarget {
  readonly server: ServerAddress
  readonly pin: string
  readonly token: string
}

export type AdminTarget = { readonly socketPath: string } | RemoteTarget

export class AdminClient {
  readonly #target: AdminTarget

  constructor(target: AdminTarget) {
    this.#target = target
  }

  /** Whether paths of files are those of another machine. */
  get isRemote(): boolean {
    return 'server' in this.#target
  }

  /** @throws {BootwireError} SERVER_NOT_RUNNING, PERMISSION_DENIED, or what the server answers */
  async ask<Result>(method: Method, path: string, body?: unknown): Promise<Result> {
    const response = await this.#send(method, path, body)
    const answer = parseAnswer(await wholeText(response))
    if (response.statusCode !== 200) throw errorOf(answer as ErrorView)
    return answer as Result
  }

  /**
   * Has long work done, which ends with this process or the signal, and tells how far it is.
   * @throws {BootwireError} as `ask`; the signal's reason
   */
  async stream<Result>(
    path: string,
    body: unknown,
    onProgress: (progress: ImportProgress) => void,
    signal?: AbortSignal,
  ): Promise<Result> {
    const response = await this.#send('POST', path, body, signal)
    return await resultIn<Result>(response, onProgress, signal)
  }

  /** Imports an image that lies on the server. */
  async importVDisk(
    body: ImportRequest,
    onProgress: (progress: ImportProgress) => void,
    signal?: AbortSignal,
  ): Promise<ImportResult> {
    return await this.stream<ImportResult>('/vdisks', body, onProgress, signal)
  }

  /** Imports an image that is sent along. */
  async uploadVDisk(
    image: Readable,
    options: ImportOptions,
    onProgress: (progress: ImportProgress) => void,
    signal?: AbortSignal,
  ): Promise<ImportResult> {
    const path = `/vdisks/upload?options=${encodeURIComponent(JSON.stringify(options))}`
    const { sending, response } = this.#begin('POST', path, { signal })
    image.on('error', (error) => sending.destroy(error))
    image.pipe(sending)
    try {
      return await resultIn<ImportResult>(await response, onProgress, signal)
    } finally {
      // An import that failed needs no more of it.
      image.unpipe(sending).destroy()
      sending.destroy()
    }
  }

  /** The content of a version, as it comes; `close` when no more of it is wanted. */
  async content(path: string, signal?: AbortSignal): Promise<Content> {
    const response = await this.#send('GET', path, undefined, signal)
    if (response.statusCode !== 200) {
      throw errorOf(parseAnswer(await wholeText(response)) as ErrorView)
    }
    const decoder = new ContentDecoder(bytesOf(response, signal))
    return { head: await decoder.head(), parts: decoder.parts(), close: () => response.destroy() }
  }

  async #send(
    method: Method,
    path: string,
    body: unknown,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    const json = body === undefined ? '' : JSON.stringify(body)
    const headers = { 'content-length': Buffer.byteLength(json) }
    const { sending, response } = this.#begin(method, path, { headers, signal })
    sending.end(json)
    return await response
  }

  #begin(
    method: Method,
    path: string,
    options: { readonly headers?: OutgoingHttpHeaders; readonly signal?: AbortSignal | undefined },
  ): { readonly sending: ClientRequest; readonly response: Promise<IncomingMessage> } {
    const { headers = {}, signal } = options
    const sending = request({
      ...connectionOptions(this.#target),
      method,
      path,
      headers: { ...headers, ...callerHeaders(this.#target) },
      ...(signal !== undefined && { signal }),
    })
    const response = new Promise<IncomingMessage>((resolve, reject) => {
      sending.once('response', resolve)
      // Also after the answer began, where the answer tells more.
      sending.on('error', (error) =>
        reject(signal?.aborted === true ? signal.reason : this.#connectionFailure(error)),
      )
    })
    return { sending, response }
  }

  #connectionFailure(error: Error): BootwireError {
    if (error instanceof BootwireError) return error
    const code = 'code' in error ? error.code : undefined
    const what = `Cannot reach the server at "${describeTarget(this.#target)}"`
    if (code === 'EACCES' || code === 'EPERM') {
      return new BootwireError('PERMISSION_DENIED', `${what}: only its owner may`, { cause: error })
    }
    const why = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'it is not running' : error.message
    return new BootwireError('SERVER_NOT_RUNNING', `${what}: ${why}`, { cause: error })
  }
}

function connectionOptions(target: AdminTarget): RequestOptions {
  if ('socketPath' in target) return { socketPath: target.socketPath, agent: false }
  const { server, pin } = target
  return {
    host: server.host,
    port: server.port,
    // Without an agent, which would connect by itself. The token is sent when the server's key was found right, and not before.
    createConnection: (_options, connected) => {
      connectPinned({ server, pin }).then(
        (socket) => connected(null, socket),
        (error: Error) => connected(error, NO_SOCKET),
      )
      return undefined
    },
  }
}

/** Beside an error nobody looks at it; the type wants one. */
const NO_SOCKET = undefined as unknown as Socket

function callerHeaders(target: AdminTarget): OutgoingHttpHeaders {
  if ('token' in target) return { authorization: `Bearer ${target.token}` }
  return { [CALLER_HEADER]: encodeURIComponent(process.env['SUDO_USER'] ?? userInfo().username) }
}

function describeTarget(target: AdminTarget): string {
  return 'server' in target ? nameOf(target.server) : target.socketPath
}

/** Reads lines of progress up to the result. */
async function resultIn<Result>(
  response: IncomingMessage,
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal | undefined,
): Promise<Result> {
  for await (const json of linesOf(response)) {
    const line = parseAnswer(json) as AnswerLine<ImportProgress, Result> | ErrorView
    if ('result' in line) return line.result
    if ('error' in line) throw errorOf(line.error)
    if ('code' in line) throw errorOf(line)
    onProgress(line.progress)
  }
  signal?.throwIfAborted()
  throw new BootwireError(
    'SERVER_NOT_RUNNING',
    'Cannot finish: the server stopped before it was done',
  )
}

/** The bytes that came, also when the server stopped before the last: who reads misses the end. */
async function* bytesOf(
  response: IncomingMessage,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* response as AsyncIterable<Uint8Array>
  } catch {
    signal?.throwIfAborted()
  }
}

async function wholeText(response: IncomingMessage): Promise<string> {
  try {
    return await text(response)
  } catch (cause) {
    throw new BootwireError('SERVER_NOT_RUNNING', 'Cannot read the answer: the server stopped', {
      cause,
    })
  }
}

/** The lines that came, also when the server stopped before the last: who reads misses the result. */
async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  const lines = createInterface({ input: response })
  // Whoever reads is told; of one who has read enough nobody asks how the connection ends.
  lines.on('error', () => undefined)
  try {
    yield* lines
  } catch {
    // A connection that breaks is the end.
  }
}

function parseAnswer(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (cause) {
    throw new BootwireError('INTERNAL', 'Cannot read the answer: it is not JSON', { cause })
  }
}

function errorOf({ code, message }: ErrorView): BootwireError {
  return new BootwireError(isErrorCode(code) ? code : 'INTERNAL', message)
}
