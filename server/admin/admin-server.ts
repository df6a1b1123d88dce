/**
 * The administration socket: JSON over HTTP on `admin.sock`, which only its owner may open. Whoever
 * can open it may do everything; there is no second check.
 */
import { lstat, unlink } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Log } from '#server/log.ts'
import { BootwireError, ERROR_KINDS, type ErrorCode } from '#shared/errors.ts'
import type { AnswerLine, ErrorView } from './admin-api.ts'
import { encodeJsonFrame, FRAME } from './content-frames.ts'
import { readBody } from './request-body.ts'
import { findRoute, type Route, type RouteMatch, type RouteRequest } from './router.ts'

/** Owner may read and write, nobody else anything. */
const SOCKET_UMASK = 0o177

const STATUS_BY_CODE: Partial<Record<ErrorCode, number>> = {
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  IN_USE: 409,
  INVALID_ARGUMENT: 400,
  LIMIT_EXCEEDED: 429,
}

interface Call extends RouteMatch {
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

export class AdminServer {
  readonly #routes: readonly Route[]
  readonly #log: Log
  readonly #server: Server

  private constructor(routes: readonly Route[], log: Log) {
    this.#routes = routes
    this.#log = log
    // An image that is uploaded takes as long as it takes.
    this.#server = createServer(
      { requestTimeout: 0 },
      (request, response) => void this.#answer(request, response),
    )
  }

  /**
   * Listens on the socket. A socket that is there already is the rest of a killed server: the
   * caller holds the database, so no living one can be behind it.
   */
  static async listen(path: string, routes: readonly Route[], log: Log): Promise<AdminServer> {
    await removeStaleSocket(path)
    const admin = new AdminServer(routes, log)
    await new Promise<void>((resolve, reject) => {
      admin.#server.once('error', reject)
      // The socket is made inside this call, so nobody ever sees it with wider permissions.
      const umaskBefore = process.umask(SOCKET_UMASK)
      try {
        admin.#server.listen(path, resolve)
      } finally {
        process.umask(umaskBefore)
      }
    })
    return admin
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://admin')
      const match = findRoute(this.#routes, request.method ?? 'GET', url.pathname)
      const call: Call = { ...match, query: url.searchParams, request, response }
      if (match.route.answers === 'lines') await this.#answerLines(call)
      else if (match.route.answers === 'frames') await this.#answerFrames(call)
      else sendJson(response, 200, await this.#run(call, await readBody(request)))
    } catch (error) {
      const view = this.#errorView(error)
      sendJson(response, STATUS_BY_CODE[view.code] ?? 500, view)
    }
    request.resume()
  }

  async #answerLines(call: Call): Promise<void> {
    const { route, request, response } = call
    const body = route.takesUpload === true ? undefined : await readBody(request)
    const write = (line: AnswerLine<unknown, unknown>) =>
      response.write(`${JSON.stringify(line)}\n`)
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.flushHeaders()
    try {
      // Progress is dropped while whoever asked does not read: the next line tells as much.
      const progress = (progress: unknown) => {
        if (!response.writableNeedDrain) write({ progress })
      }
      write({ result: await this.#run(call, body, { progress }) })
    } catch (error) {
      if (response.destroyed) return // whoever asked is gone, and that is why it failed
      write({ error: this.#errorView(error) })
      await drained(request)
    }
    response.end()
  }

  async #answerFrames(call: Call): Promise<void> {
    const { response } = call
    const body = await readBody(call.request)
    response.writeHead(200, { 'content-type': 'application/octet-stream' })
    try {
      await this.#run(call, body, { write: (bytes) => written(response, bytes) })
    } catch (error) {
      if (response.destroyed) return
      response.write(encodeJsonFrame(FRAME.error, this.#errorView(error)))
    }
    response.end()
  }

  async #run(
    { route, params, query, request, response }: Call,
    body: unknown,
    outputs: Partial<Pick<RouteRequest, 'progress' | 'write'>> = {},
  ): Promise<unknown> {
    const gone = new AbortController()
    const onClose = () => gone.abort(new Error('whoever asked is gone'))
    response.on('close', onClose)
    try {
      return await route.handle({
        params,
        query,
        body,
        // Not destroyed by who stops reading, or the answer would go with it.
        upload: request.iterator({ destroyOnReturn: false }),
        signal: gone.signal,
        progress: () => undefined,
        write: async () => undefined,
        ...outputs,
      })
    } finally {
      response.off('close', onClose)
    }
  }

  #errorView(error: unknown): ErrorView {
    if (error instanceof BootwireError) {
      const { code, number, message, action } = error
      return { code, number, message, action }
    }
    this.#log.error({ err: error }, 'administration request failed')
    const { number, action } = ERROR_KINDS.INTERNAL
    const message = `The server failed: ${error instanceof Error ? error.message : String(error)}`
    return { code: 'INTERNAL', number, message, action }
  }
}

/**
 * Reads what was not read, up to its end or that of the connection. Before, the answer must not end: the
 * connection would be closed under whoever is sending still, and the answer lost with it.
 */
function drained(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return Promise.resolve()
  return new Promise((resolve) => {
    request.once('end', resolve)
    request.once('close', resolve)
    request.on('error', () => resolve()) // as when whoever sends is gone
    request.resume()
  })
}

/** Returns when the bytes may be used again; fails when whoever asked is gone. */
function written(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    response.write(bytes, (error) => {
      if (error === null || error === undefined) resolve()
      else reject(error)
    })
  })
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const text = JSON.stringify(value ?? null)
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
  response.end(text)
}

async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) return await unlink(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
    throw error
  }
  throw new BootwireError(
    'STATE_UNREADABLE',
    `Cannot listen on "${path}": something else than a socket lies there`,
  )
}
