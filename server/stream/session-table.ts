/** The sessions of this server by client: one per client, the newest wins. */
import type { CloseCode } from './close-code.ts'

/** What the table asks of a session. */
export interface TableSession {
  readonly clientId: string
  readonly bootId: string
  readonly isAuthenticated: boolean
  /** Of the key that the machine has proven. */
  readonly keyFingerprint: string | undefined
  /** Shown by a machine whose key nobody has vouched for. */
  readonly enrolCode: string | undefined
  /** True while the client waits for its identity to change. */
  readonly waiting: boolean
  /** Where the machine is. */
  readonly address: string
  /** Whether its machine gives a sign of life within this time. */
  isAlive(timeoutMs: number): Promise<boolean>
  /** Another machine wanted to be this client, and was turned away. */
  contested(byAddress: string): void
  /** Sends a new identity if it changed. */
  refresh(): void
  /** Closes the connection; the agent is free to come back. */
  end(code: CloseCode, reason: string): void
  /** Another connection takes this client's place; of the same boot, or of a newer one. */
  supersede(sameBoot: boolean): void
}

export class SessionTable {
  readonly #sessions = new Map<string, TableSession>()

  get count(): number {
    return this.#sessions.size
  }

  get(clientId: string): TableSession | undefined {
    return this.#sessions.get(clientId)
  }

  /** The one whose machine shows this code. */
  byEnrolCode(code: string): TableSession | undefined {
    return [...this.#sessions.values()].find((session) => session.enrolCode === code)
  }

  /** Enters a session, and closes the one it replaces. */
  enter(session: TableSession): void {
    const before = this.#sessions.get(session.clientId)
    this.#sessions.set(session.clientId, session)
    before?.supersede(before.bootId === session.bootId)
  }

  /** Removes a session unless another took its place. */
  leave(session: TableSession): void {
    if (this.#sessions.get(session.clientId) === session) this.#sessions.delete(session.clientId)
  }

  refreshWaiting(): void {
    for (const session of this.#sessions.values()) {
      if (session.waiting) session.refresh()
    }
  }
}
