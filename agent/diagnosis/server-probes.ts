/** Probes of what the server says and sends, over the session that the boot uses and connections beside it. */
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { connectPinned, nameOf } from '#shared/tls/pinned-tls.ts'
import { formatBytes, KiB } from '#shared/units.ts'
import { formatWaited } from '../screen/waited-time.ts'
import type { AgentSession } from '../session/agent-session.ts'
import type { ProbeResult } from './chain-check.ts'
import { waitReason } from './wait-reason.ts'

export type ProbedSession = Pick<
  AgentSession,
  'connection' | 'identity' | 'serverNowMs' | 'trust' | 'changed'
>

/** Systems trust their clock, but nobody needs it to the second. */
const CLOCK_OFF_MS_MAX = 60_000

/** Enough to need large packets and several round trips; a tenth of a second on 100 Mb/s. */
const STREAM_BYTES: number = 512 * KiB
/** Half a MiB in this time is 0.4 Mb/s: nobody would boot over that. */
const STREAM_MS = 10_000
/** As on the server (server/boot/boot-paths.ts); every client has loaded it once. */
const STREAM_PATH = '/files/agent.img'

/** The session says hello at once, and again after a pause when it could not. */
const IDENTITY_MS = 5_000

export async function probeTls(
  servers: readonly ServerAddress[],
  session: ProbedSession,
): Promise<ProbeResult> {
  try {
    const server = await firstReached(servers, session)
    return { state: 'good', text: `the key of ${nameOf(server)} is the one that is trusted` }
  } catch (error) {
    // It was reached a moment ago: a certificate is the first that needs a packet of full size.
    if (!(error instanceof BootwireError) || error.code !== 'SERVER_UNREACHABLE') throw error
    const names = servers.map(nameOf).join(', ')
    throw new BootwireError('STREAM_STALLED', `${names} takes connections, and does not answer`, {
      cause: error,
    })
  }
}

export async function probeClock(
  session: ProbedSession,
  nowMs = () => Date.now(),
): Promise<ProbeResult> {
  await untilIdentified(session)
  const { serverNowMs } = session
  if (serverNowMs === undefined)
    return { state: 'untested', text: 'the server has not told its time' }
  const offMs = nowMs() - serverNowMs
  const text = `${formatWaited(Math.abs(offMs))} ${offMs < 0 ? 'slow' : 'fast'}`
  if (Math.abs(offMs) <= CLOCK_OFF_MS_MAX) {
    return { state: 'good', text: "in step with the server's" }
  }
  throw new BootwireError('CLOCK_WRONG', `The clock of this machine is ${text}`)
}

export async function probeIdentity(session: ProbedSession): Promise<ProbeResult> {
  await untilIdentified(session)
  const { identity, connection } = session
  if (identity === undefined || !connection.isUp) {
    if (connection.error !== undefined) throw connection.error
    throw new BootwireError('SERVER_UNREACHABLE', 'The server has not said who this machine is')
  }
  if (identity.state !== 'approved') throw matterOf(session)
  const proven = identity.isAuthenticated === true ? 'proven by its key' : 'not authenticated'
  return { state: 'good', text: `${identity.hostname}, ${proven}` }
}

export async function probeAssignment(session: ProbedSession): Promise<ProbeResult> {
  const offers = session.identity?.offers ?? []
  if (offers.length === 0) throw matterOf(session)
  return { state: 'good', text: offers.map(({ vdisk }) => vdisk).join(', ') }
}

/** Fetches the beginning of a file: whether much comes as well as little. */
export async function probeStream(
  servers: readonly ServerAddress[],
  session: ProbedSession,
): Promise<ProbeResult> {
  const server = await firstReached(servers, session)
  const socket = await connectPinned({ server, pin: session.trust.known })
  const { promise, resolve } = Promise.withResolvers<'done' | 'ended' | 'late'>()
  const startedMs = performance.now()
  let received = 0
  const timer = setTimeout(() => resolve('late'), STREAM_MS)
  socket.on('data', (bytes: Buffer) => {
    received += bytes.length
    if (received >= STREAM_BYTES) resolve('done')
  })
  socket.on('error', () => resolve('ended')).on('close', () => resolve('ended'))
  socket.write(`GET ${STREAM_PATH} HTTP/1.1\r\nHost: ${server.host}\r\nConnection: close\r\n\r\n`)
  const how = await promise
  clearTimeout(timer)
  socket.destroy()
  if (how !== 'done') {
    throw new BootwireError(
      'STREAM_STALLED',
      `The server sent ${formatBytes(received)} and ${how === 'late' ? `no more within ${STREAM_MS / 1000} s` : 'broke off'}, expected ${formatBytes(STREAM_BYTES)}`,
    )
  }
  const mbitPerSecond = (received * 8) / 1000 / (performance.now() - startedMs)
  return { state: 'good', text: `${mbitPerSecond.toFixed(mbitPerSecond < 10 ? 1 : 0)} Mb/s` }
}

async function firstReached(
  servers: readonly ServerAddress[],
  session: ProbedSession,
): Promise<ServerAddress> {
  let failure: unknown
  for (const server of servers) {
    try {
      const socket = await connectPinned({ server, pin: session.trust.known })
      socket.destroy()
      return server
    } catch (error) {
      // The first one's key is of more interest than a second one's silence.
      failure ??= error
    }
  }
  throw failure
}

async function untilIdentified(session: ProbedSession): Promise<void> {
  const late = AbortSignal.timeout(IDENTITY_MS)
  const aborted = new Promise<void>((resolve) => {
    late.addEventListener('abort', () => resolve(), { once: true })
  })
  while (!late.aborted && !(session.connection.isUp && session.identity !== undefined)) {
    await Promise.race([session.changed(), aborted])
  }
}

/** What the waiting screen would say. */
function matterOf({ connection, identity, trust }: ProbedSession): BootwireError {
  const nobody: MachineFacts = { macs: [], memoryBytes: 0 }
  const matter = waitReason(nobody, connection, identity, trust.known)?.matter
  return matter instanceof BootwireError
    ? matter
    : new BootwireError('NOTHING_ASSIGNED', 'There is no vDisk for this machine')
}
