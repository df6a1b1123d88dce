/** How long a session waits for what. Tests give shorter ones. */
import { CONNECT_TIMEOUT_MS } from '#shared/tls/pinned-tls.ts'
import { PING_INTERVAL_MS, SILENCE_TIMEOUT_MS } from '#shared/wire/limits.ts'

export interface SessionLimits {
  /** For TCP and TLS together, and for the upgrade: in the same building it takes milliseconds. */
  readonly connectTimeoutMs: number
  readonly pingIntervalMs: number
  readonly silenceTimeoutMs: number
  /** For the answer to `hello`: a server whose disk is stuck still answers pings. */
  readonly answerTimeoutMs: number
  /**
   * Another connection of this client took over: it is the one that counts. This agent asks again
   * seldom, in case that one was a mistake and a root runs here.
   */
  readonly supersededPauseMs: number
  /** A vDisk that is open but refused on a new connection is asked for again after this long. */
  readonly reopenPauseMs: number
  /** For a goodbye: the machine goes down and must not wait for a server that is gone. */
  readonly byeTimeoutMs: number
}

export const SESSION_LIMITS: SessionLimits = {
  connectTimeoutMs: CONNECT_TIMEOUT_MS,
  pingIntervalMs: PING_INTERVAL_MS,
  silenceTimeoutMs: SILENCE_TIMEOUT_MS,
  answerTimeoutMs: SILENCE_TIMEOUT_MS,
  supersededPauseMs: 30_000,
  reopenPauseMs: 10_000,
  byeTimeoutMs: 3_000,
}
