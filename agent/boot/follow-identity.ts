/** What the server says of this client while its system runs: other settings, and what its people should know. */
import type { Announcer } from '../screen/server-lost-notice.ts'
import type { AgentSession } from '../session/agent-session.ts'
import { writeClientSettings } from './client-settings-files.ts'
import type { RunFolder } from './run-folder.ts'

export interface IdentityFollower {
  readonly session: Pick<AgentSession, 'identity' | 'changed' | 'notice'>
  readonly runFolder: RunFolder
  readonly consoles: Announcer
}

/** Goes on for as long as the process lives. */
export async function followIdentity({
  session,
  runFolder,
  consoles,
}: IdentityFollower): Promise<never> {
  let said: string | undefined
  for (;;) {
    const { identity } = session
    try {
      if (identity !== undefined) writeClientSettings(runFolder, identity)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      session.notice('error', `Cannot pass settings on to the system: ${why}`)
    }
    if (identity?.warning !== undefined && identity.warning !== said) {
      said = identity.warning
      consoles.announce(said)
    }
    await session.changed()
  }
}
