/**
 * Watches over the server while a root runs, and says in words for whoever sits there when that stands
 * still: there is no server, one that refuses, or one that answers and sends nothing. The last is given up
 * after a while: another connection, or another server, may do better.
 */
import { type BootwireError, describeError } from '#shared/errors.ts'
import { nameOf } from '#shared/tls/pinned-tls.ts'
import { type Announcer, ServerLostNotice } from '../screen/server-lost-notice.ts'
import type { AgentSession } from '../session/agent-session.ts'
import type { ServedVdisk } from './served-vdisk.ts'

export interface WatchedServer {
  readonly session: Pick<
    AgentSession,
    'isOpen' | 'connection' | 'changed' | 'wireBytesReceived' | 'giveUp'
  >
  readonly vdisk: Pick<ServedVdisk, 'runsAlone' | 'longestWaitMs'>
  readonly consoles: Announcer
}

export interface SilenceLimits {
  readonly lookMs: number
  /** A read has waited so long, and nothing has come: a busy server takes less. */
  readonly silentMs: number
  /** Then the connection is given up: its server may serve others well, and not this one. */
  readonly giveUpMs: number
}

const SILENCE_LIMITS: SilenceLimits = { lookMs: 1_000, silentMs: 3_000, giveUpMs: 20_000 }

/** Goes on until it is disposed of. `limits` are only given by tests. */
export function watchServer(
  watched: WatchedServer,
  limits: SilenceLimits = SILENCE_LIMITS,
): Disposable {
  void announceLosses(watched)
  return watchSilence(watched, limits)
}

/** No server, or one that refuses. */
async function announceLosses({ session, vdisk, consoles }: WatchedServer): Promise<never> {
  for (;;) {
    await untilOpen(session, false)
    const notice = new ServerLostNotice(consoles, nameOf(session.connection.server), {
      runsAlone: () => vdisk.runsAlone,
    })
    await untilOpen(session, true, (refusal) => consoles.announce(describeError(refusal)))
    notice.end()
  }
}

/** `onRefused` is called with each new reason of a server that is there and does not open the vDisk. */
async function untilOpen(
  session: WatchedServer['session'],
  isOpen: boolean,
  onRefused: (error: BootwireError) => void = () => undefined,
): Promise<void> {
  let said = ''
  while (session.isOpen !== isOpen) {
    const { isUp, error } = session.connection
    if (isUp && error !== undefined && error.message !== said) {
      said = error.message
      onRefused(error)
    }
    await session.changed()
  }
}

/** A server that answers pings while a read waits and nothing comes. */
function watchSilence(
  { session, vdisk, consoles }: WatchedServer,
  { lookMs, silentMs, giveUpMs }: SilenceLimits,
): Disposable {
  let notice: ServerLostNotice | undefined
  let bytes = session.wireBytesReceived
  let sinceMs = performance.now()
  const look = () => {
    const nowMs = performance.now()
    if (!session.isOpen || session.wireBytesReceived !== bytes || vdisk.longestWaitMs === 0) {
      bytes = session.wireBytesReceived
      sinceMs = nowMs
      // When the connection is lost, that is what is told.
      if (session.isOpen) notice?.end()
      else notice?.[Symbol.dispose]()
      notice = undefined
      return
    }
    const waitedMs = Math.min(nowMs - sinceMs, vdisk.longestWaitMs)
    if (waitedMs >= silentMs) {
      const server = nameOf(session.connection.server)
      notice ??= new ServerLostNotice(consoles, server, { trouble: 'silent' })
    }
    if (waitedMs >= giveUpMs)
      session.giveUp(`it has sent nothing for ${Math.round(waitedMs / 1000)} s`)
  }
  const timer = setInterval(look, lookMs).unref()
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      notice?.[Symbol.dispose]()
    },
  }
}
