/** Settings that the administrator changes reach the running system. */
import type { AgentSession } from '../session/agent-session.ts'
import { writeClientSettings } from './client-settings-files.ts'
import type { RunFolder } from './run-folder.ts'

export interface SettingsFollower {
  readonly session: Pick<AgentSession, 'identity' | 'changed' | 'notice'>
  readonly runFolder: RunFolder
}

/** Goes on for as long as the process lives. */
export async function followSettings({ session, runFolder }: SettingsFollower): Promise<never> {
  for (;;) {
    try {
      if (session.identity !== undefined) writeClientSettings(runFolder, session.identity)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      session.notice('error', `Cannot pass settings on to the system: ${why}`)
    }
    await session.changed()
  }
}
