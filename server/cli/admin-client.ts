/** Asks the running server, over its administration socket. */
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type {
  AnswerLine,
  ErrorView,
  ImportProgress,
  ImportRequest,
  ImportResult,
} from '#server/admin/admin-api.ts'
import { BootwireError, isErrorCode } from '#shared/errors.ts'

export type Method = 'GET' | 'POST' | 'DELETE'

export class AdminClient {
  readonly #socketPath: string

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** @throws {BootwireError} SERVER_NOT_RUNNING, PERMISSION_DENIED, or what the server answers */
  async ask<Result>(method: Method, path: string, body?: unknown): Promise<Result> {
    const response = await this.#send(method, path, body)
    const answer = parseAnswer(await wholeText(response))
    if (response.statusCode !== 200) throw errorOf(answer as ErrorView)
    return answer as Result
  }

  /** Imports an image, and tells how far it is. The import ends with this process. */
  async importVDisk(
    body: ImportRequest,
    onProgress: (progress: ImportProgress) => void,
  ): Promise<ImportResult> {
    const response = await this.#send('POST', '/vdisks', body)
    for await (const json of linesOf(response)) {
      const line = parseAnswer(json) as AnswerLine<ImportProgress, ImportResult> | ErrorView
      if ('result' in line) return line.result
      if ('error' in line) throw errorOf(line.error)
      if ('code' in line) throw errorOf(line)
      onProgress(line.progress)
    }
    throw new BootwireError(
      'SERVER_NOT_RUNNING',
      'Cannot finish the import: the server stopped before it was done',
    )
  }

  #send(method: Method, path: string, body: unknown): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const json = body === undefined ? '' : JSON.stringify(body)
      const headers = { 'content-length': Buffer.byteLength(json) }
      request({ socketPath: this.#socketPath, method, path, headers, agent: false }, resolve)
        .on('error', (error) => reject(this.#connectionFailure(error)))
        .end(json)
    })
  }

  #connectionFailure(error: Error): BootwireError {
    const code = 'code' in error ? error.code : undefined
    const what = `Cannot reach the server at "${this.#socketPath}"`
    if (code === 'EACCES' || code === 'EPERM') {
      return new BootwireError('PERMISSION_DENIED', `${what}: only its owner may`, { cause: error })
    }
    const why = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'it is not running' : error.message
    return new BootwireError('SERVER_NOT_RUNNING', `${what}: ${why}`, { cause: error })
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
  try {
    yield* createInterface({ input: response })
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
