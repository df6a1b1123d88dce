/** Sessions of agents, with what a test does not care about filled in. */
import { AgentSession, type AgentSessionOptions } from '#agent/session/agent-session.ts'
import { BOOT_ID } from './agent-messages.ts'

export interface SessionTarget {
  readonly port: number
  readonly pin: string
}

/** Ends with its test, however that ends. */
export class TestSession extends AgentSession implements AsyncDisposable {
  async [Symbol.asyncDispose](): Promise<void> {
    await this.bye('halt')
  }
}

/** A session with a server of this machine; not started. Its goodbye waits for nobody. */
export function createSession(
  { port, pin }: SessionTarget,
  { limits, ...options }: Partial<AgentSessionOptions> = {},
): TestSession {
  return new TestSession({
    servers: [{ host: '127.0.0.1', port }],
    pin,
    agentVersion: '0.1.0',
    bootId: BOOT_ID,
    facts: { macs: ['52:54:00:00:00:01'] },
    kernelRelease: '6.1.0',
    uptimeSeconds: () => 4,
    limits: { byeTimeoutMs: 1, ...limits },
    ...options,
  })
}

/** Returns once `check` is true of the session, which is looked at after each of its changes. */
export async function until(session: AgentSession, check: () => boolean): Promise<void> {
  while (!check()) await session.changed()
}

export async function untilUp(session: AgentSession): Promise<void> {
  await until(session, () => session.connection.isUp)
}

export async function untilDown(session: AgentSession): Promise<void> {
  await until(session, () => !session.connection.isUp)
}
