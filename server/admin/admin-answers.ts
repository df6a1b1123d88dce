/** Answers administration requests, whoever asks: right, route, audit, answer. JSON over HTTP. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AuditEntry, AuditLog } from '#server/administrators/audit-log.ts'
import { type RateLimit, RateLimiter } from '#server/administrators/rate-limiter.ts'
import { type Caller, mayActAs } from '#server/administrators/roles.ts'
import type { Log } from '#server/log.ts'
import { readBody } from '#server/request-body.ts'
import { BootwireError, ERROR_KINDS, type ErrorCode } from '#shared/errors.ts'
import { NAME_LENGTH_MAX } from '#shared/wire/limits.ts'
import type { AnswerLine, ErrorView } from './admin-api.ts'
import {
  type AuditSubject,
  differences,
  type SubjectFinder,
  withoutSecrets,
} from './audit-subject.ts'
import { encodeJsonFrame, FRAME } from './content-frames.ts'
import { type Right, rightOf } from './rights.ts'
import { findRoute, type Route, type RouteMatch, type RouteRequest } from './router.ts'

const STATUS_BY_CODE: Partial<Record<ErrorCode, number>> = {
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  IN_USE: 409,
  INVALID_ARGUMENT: 400,
  LIMIT_EXCEEDED: 429,
  PERMISSION_DENIED: 403,
  UNAUTHENTICATED: 401,
}

/**
 * Refusals that are audited, of one caller: who may nothing shall not be able to push out of the log what was
 * done.
 */
const REFUSALS: RateLimit = { burst: 20, perSecond: 1 / 60, keysMax: 1000 }

/** Of a request, in the audit log: names and settings are shorter. */
const REQUEST_LENGTH_MAX = 4096

interface Call extends RouteMatch {
  readonly caller: Caller
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

export interface AdminAnswersServices {
  readonly routes: readonly Route[]
  readonly audit: Pick<AuditLog, 'append'>
  readonly findSubject: SubjectFinder
  readonly log: Log
}

type Outputs = Partial<Pick<RouteRequest, 'progress' | 'write'>>

export class AdminAnswers {
  readonly #services: AdminAnswersServices
  readonly #refusals = new RateLimiter(REFUSALS)

  constructor(services: AdminAnswersServices) {
    this.#services = services
  }

  /** Never fails: what goes wrong is the answer. */
  async answer(request: IncomingMessage, response: ServerResponse, caller: Caller): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://admin')
      const match = findRoute(this.#services.routes, request.method ?? 'GET', url.pathname)
      const call: Call = { ...match, caller, query: url.searchParams, request, response }
      if (match.route.answers === 'lines') await this.#answerLines(call)
      else if (match.route.answers === 'frames') await this.#answerFrames(call)
      else sendJson(response, 200, await this.#run(call, await readBody(request)))
    } catch (error) {
      this.fail(response, error)
    }
    request.resume()
  }

  fail(response: ServerResponse, error: unknown): void {
    const view = this.#errorView(error)
    sendJson(response, STATUS_BY_CODE[view.code] ?? 500, view)
  }

  async #answerLines(call: Call): Promise<void> {
    const { route, request, response } = call
    assertMay(call)
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
    assertMay(call)
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

  /** Does it, if whoever asks may, and has it in the audit log before it is answered. */
  async #run(call: Call, body: unknown, outputs: Outputs = {}): Promise<unknown> {
    const right = rightOf(call.route)
    if (right.action === undefined) {
      assertMay(call)
      return await handle(call, body, outputs)
    }
    return await this.#audited(call, { ...right, action: right.action }, body, outputs)
  }

  async #audited(
    call: Call,
    { action }: Right & { readonly action: string },
    body: unknown,
    outputs: Outputs,
  ): Promise<unknown> {
    const { caller, params, query } = call
    // What is not there, the request itself says in words.
    const subject = await this.#services.findSubject(params).catch(() => undefined)
    const before = await subject?.read()
    const who = {
      ...callerFields(caller),
      action,
      ...(subject !== undefined && { subject: subject.name.slice(0, NAME_LENGTH_MAX) }),
    }
    try {
      assertMay(call)
    } catch (error) {
      if (this.#refusals.take(caller.name)) {
        await this.#record({ ...who, outcome: 'PERMISSION_DENIED' })
      }
      throw error
    }
    const entry = { ...who, ...requestField(body, query) }
    try {
      const result = await handle(call, body, outputs)
      await this.#record({ ...entry, ...(await changeOf(subject, before)), outcome: 'done' })
      return result
    } catch (error) {
      const outcome = error instanceof BootwireError ? error.code : 'INTERNAL'
      await this.#record({ ...entry, ...(await changeOf(subject, before)), outcome })
      throw error
    }
  }

  async #record(entry: Omit<AuditEntry, 'at'>): Promise<void> {
    try {
      await this.#services.audit.append({ at: new Date().toISOString(), ...entry })
    } catch (error) {
      // What was done is done: it is told to whoever asked, and stands in the log instead.
      this.#services.log.error({ err: error, entry }, 'cannot write the audit log')
    }
  }

  #errorView(error: unknown): ErrorView {
    if (error instanceof BootwireError) {
      const { code, number, message, action } = error
      return { code, number, message, action }
    }
    this.#services.log.error({ err: error }, 'administration request failed')
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

function assertMay({ caller, route }: Pick<Call, 'caller' | 'route'>): void {
  const { role, action } = rightOf(route)
  if (mayActAs(caller.role, role)) return
  const what = action ?? `see ${route.path}`
  const whose = role === 'owner' ? 'who sits at the server itself' : `the role ${role}`
  throw new BootwireError(
    'PERMISSION_DENIED',
    `Cannot do "${what}" as ${caller.name}, who has the role ${caller.role}: it is for ${whose}`,
  )
}

async function handle(
  { caller, route, params, query, request, response }: Call,
  body: unknown,
  outputs: Outputs,
): Promise<unknown> {
  const gone = new AbortController()
  const onClose = () => gone.abort(new Error('whoever asked is gone'))
  response.on('close', onClose)
  try {
    return await route.handle({
      caller,
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

function callerFields({
  name,
  role,
  address,
}: Caller): Pick<AuditEntry, 'by' | 'role' | 'address'> {
  return { by: name, role, ...(address !== undefined && { address }) }
}

/** The body, or for an upload what its address says. */
function requestField(body: unknown, query: URLSearchParams): Pick<AuditEntry, 'request'> {
  if (body === undefined && query.size === 0) return {}
  const request = body === undefined ? Object.fromEntries(query) : withoutSecrets(body)
  const text = JSON.stringify(request)
  if (text.length <= REQUEST_LENGTH_MAX) return { request }
  return { request: { isCut: true, begins: text.slice(0, REQUEST_LENGTH_MAX) } }
}

async function changeOf(
  subject: AuditSubject | undefined,
  before: unknown,
): Promise<Pick<AuditEntry, 'before' | 'after'>> {
  return subject === undefined ? {} : differences(before, await subject.read())
}
