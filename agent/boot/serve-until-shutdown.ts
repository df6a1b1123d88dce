/** The life after the boot: serves the root, tells the server how it goes, and ends cleanly. */
import { describeError } from '#shared/errors.ts'
import type { Announcer } from '../screen/server-lost-notice.ts'
import type { AgentSession } from '../session/agent-session.ts'
import { BootEnd } from './boot-end.ts'
import { watchGoingDown } from './going-down.ts'
import { untilLogin } from './login-watch.ts'
import type { RunFolder } from './run-folder.ts'
import type { ServedVdisk } from './served-vdisk.ts'
import { watchServer } from './watch-server.ts'

const STATUS_INTERVAL_MS = 10_000

/** What `shutdown` of the initramfs writes, and what a server is told. */
const VERBS = ['poweroff', 'reboot', 'halt', 'kexec'] as const

export interface ServeParts {
  readonly session: AgentSession
  readonly vdisk: Pick<
    ServedVdisk,
    | 'stats'
    | 'ended'
    | 'detach'
    | 'endBoot'
    | 'runsAlone'
    | 'longestWaitMs'
    | 'goDown'
    | 'failWaiting'
    | 'isKept'
    | 'writesWaiting'
  >
  readonly runFolder: RunFolder
  readonly consoles: Announcer
}

/** Returns after the device is detached and the server knows. @throws when the kernel hangs up */
export async function serveUntilShutdown(parts: ServeParts): Promise<void> {
  const stop = new AbortController()
  const bootEnd = new BootEnd(parts.vdisk)
  const timer = setInterval(() => report(parts), STATUS_INTERVAL_MS)
  using watches = new DisposableStack()
  watches.use(watchServer(parts))
  watches.use(watchGoingDown(parts))
  try {
    const shutDown = untilShutdown(parts, stop.signal)
    await Promise.race([shutDown, followBoot(parts, bootEnd, stop.signal).then(() => shutDown)])
  } finally {
    clearInterval(timer)
    stop.abort()
    bootEnd.end()
  }
  await endCleanly(parts)
}

async function untilShutdown(
  { vdisk, runFolder }: ServeParts,
  signal: AbortSignal,
): Promise<unknown> {
  return await Promise.race([
    runFolder.until(() => runFolder.read('shutdown'), signal),
    vdisk.ended.then((end) => {
      throw new Error('The kernel no longer asks for anything', { cause: end })
    }),
  ])
}

async function endCleanly(parts: ServeParts): Promise<void> {
  const { session, vdisk, runFolder } = parts
  report(parts)
  const verb = runFolder.read('shutdown')?.trim()
  try {
    // The root is unmounted already: a device that stays attached is a flaw, and no loss.
    await vdisk.detach().catch((error: unknown) => session.notice('error', describeError(error)))
    await session.bye(VERBS.find((it) => it === verb) ?? 'poweroff')
  } finally {
    runFolder.write('shutdown-done', '')
  }
}

async function followBoot(parts: ServeParts, bootEnd: BootEnd, signal: AbortSignal): Promise<void> {
  const { session, runFolder } = parts
  const failure = await runFolder.until(
    () =>
      runFolder.read('failed') ?? (runFolder.read('root-mounted') === undefined ? undefined : ''),
    signal,
  )
  if (failure !== '') return session.notice('error', failure)
  session.phase('root-mounted')
  bootEnd.rootMounted()
  if (!(await untilLogin())) return
  session.phase('login')
  bootEnd.loginOffered()
  report(parts)
}

function report({ session, vdisk }: ServeParts): void {
  session.status({ rssBytes: process.memoryUsage.rss(), ...vdisk.stats() })
}
