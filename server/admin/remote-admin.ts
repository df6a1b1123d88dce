/**
 * Administration from afar: the same requests over TLS, from whoever brings a token
 * (`Authorization: Bearer`, RFC 6750 §2.1), with the rights of its role.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AccessTokens } from '#server/administrators/access-tokens.ts'
import { type RateLimit, RateLimiter } from '#server/administrators/rate-limiter.ts'
import type { Caller } from '#server/administrators/roles.ts'
import type { Log } from '#server/log.ts'
import { peerAddress } from '#server/peer-address.ts'
import { BootwireError } from '#shared/errors.ts'
import type { AdminAnswers } from './admin-answers.ts'

/**
 * Of one address, requests with a token that is nobody's. More are refused without a look and without a
 * line in the log; a right token from there is still heard, so nobody locks an administrator out.
 */
export const FAILURES: RateLimit = { burst: 10, perSecond: 0.2, keysMax: 10_000 }

/** Of one administrator: a page that shows everything, and scripts. */
export const REQUESTS: RateLimit = { burst: 200, perSecond: 20, keysMax: 1000 }

const BEARER = /^Bearer ([\w-]{1,128})$/

export interface RemoteAdminServices {
  readonly answers: AdminAnswers
  readonly tokens: Pick<AccessTokens, 'check'>
  readonly log: Log
  readonly failures?: RateLimit
  readonly requests?: RateLimit
}

export class RemoteAdmin {
  readonly #services: RemoteAdminServices
  readonly #failures: RateLimiter
  readonly #requests: RateLimiter

  constructor(services: RemoteAdminServices) {
    this.#services = services
    this.#failures = new RateLimiter(services.failures ?? FAILURES)
    this.#requests = new RateLimiter(services.requests ?? REQUESTS)
  }

  readonly handle = (request: IncomingMessage, response: ServerResponse): void => {
    void this.#handle(request, response)
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { answers } = this.#services
    try {
      const caller = await this.#callerOf(request)
      await answers.answer(request, response, caller)
    } catch (error) {
      answers.fail(response, error)
      // Of who is nobody here, nothing more is read.
      response.once('finish', () => request.socket.destroySoon())
    }
  }

  async #callerOf(request: IncomingMessage): Promise<Caller> {
    const address = peerAddress(request.socket)
    const token = BEARER.exec(request.headers.authorization ?? '')?.[1]
    const record = token === undefined ? undefined : await this.#services.tokens.check(token)
    if (record === undefined) throw this.#strangerError(address, token !== undefined)
    if (!this.#requests.take(record.id)) {
      throw tooMany(`Cannot answer ${record.name} so often`)
    }
    return { name: record.name, role: record.role, address }
  }

  #strangerError(address: string, hasToken: boolean): BootwireError {
    if (!this.#failures.take(address)) return tooMany(`Cannot look at so many tokens of ${address}`)
    this.#services.log.warn({ address }, 'administration refused: no valid token')
    const why = hasToken ? 'its token is not valid, or no longer' : 'it has no token'
    return new BootwireError('UNAUTHENTICATED', `Cannot answer this request: ${why}`)
  }
}

function tooMany(what: string): BootwireError {
  return new BootwireError('LIMIT_EXCEEDED', `${what}: expected fewer requests`)
}
