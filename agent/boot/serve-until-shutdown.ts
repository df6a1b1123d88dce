/** The life after the boot: serves the root, tells the server how it goes, and ends cleanly. */
import type { Consoles } from '../screen/consoles.ts'
import { ServerLostNotice } from '../screen/server-lost-notice.ts'
import type { AgentSession } from '../session/agent-session.ts'
import { nameOf } from '../session/pinned-tls.ts'
import type { BootedClient } from './boot-client.ts'
import { untilLogin } from './login-watch.ts'
import type { RunFolder } from './run-folder.ts'

const STATUS_INTERVAL_MS = 10_000

/** What `shutdown` of the initramfs writes, and what a server is told. */
const VERBS = ['poweroff', 'reboot', 'halt', 'kexec'] as const

export interface ServeParts extends BootedClient {
  readonly runFolder: RunFolder
  readonly consoles: Consoles
}

/** Returns after the device is detached and the server knows. */
export async function serveUntilShutdown(parts: ServeParts): Promise<void> {
  const { session, vdisk, runFolder } = parts
  const timer = setInterval(() => report(parts), STATUS_INTERVAL_MS)
  void followBoot(parts)
  void announceLosses(parts)
  const verb = await Promise.race([
    runFolder.until(() => runFolder.read('shutdown'), new AbortController().signal),
    vdisk.ended.then((end) => {
      throw new Error('The kernel no longer asks for anything', { cause: end })
    }),
  ])
  clearInterval(timer)
  report(parts)
  const reason = VERBS.find((it) => it === verb.trim()) ?? 'poweroff'
  try {
    await vdisk.detach()
    await session.bye(reason)
  } finally {
    runFolder.write('shutdown-done', '')
  }
}

async function followBoot(parts: ServeParts): Promise<void> {
  const { session, runFolder } = parts
  const { signal } = new AbortController()
  const failure = await runFolder.until(
    () =>
      runFolder.read('failed') ?? (runFolder.read('root-mounted') === undefined ? undefined : ''),
    signal,
  )
  if (failure !== '') return session.notice('error', failure)
  session.phase('root-mounted')
  if (!(await untilLogin())) return
  session.phase('login')
  report(parts)
}

/** Losses of the connection, in words for whoever sits there. */
async function announceLosses({ session, consoles }: ServeParts): Promise<never> {
  for (;;) {
    await untilUp(session, false)
    const notice = new ServerLostNotice(consoles, nameOf(session.connection.server))
    await untilUp(session, true)
    notice.end()
  }
}

async function untilUp(session: AgentSession, isUp: boolean): Promise<void> {
  while (session.connection.isUp !== isUp) await session.changed()
}

function report({ session, vdisk }: ServeParts): void {
  session.status({ rssBytes: process.memoryUsage.rss(), ...vdisk.stats() })
}
