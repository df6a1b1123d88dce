/** The sessions of this server by client: one per client, the newest wins. */
import type { CloseCode } from './close-code.ts'

/** What the table asks of a session. */
export interface TableSession {
  readonly clientId: string
  readonly bootId: string
  /** True while the client waits for its identity to change. */
  readonly waiting: boolean
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
