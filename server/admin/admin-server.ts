/**
 * The administration socket, `admin.sock`, which only its owner may open. Whoever can open it may do
 * everything; there is no second check.
 */
import { lstat, unlink } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Caller } from '#server/administrators/roles.ts'
import { printable } from '#server/printable.ts'
import { BootwireError } from '#shared/errors.ts'
import type { AdminAnswers } from './admin-answers.ts'
import { CALLER_HEADER } from './admin-api.ts'

/** Owner may read and write, nobody else anything. */
const SOCKET_UMASK = 0o177

/** As Linux has it (useradd). */
const USER_LENGTH_MAX = 32

export class AdminServer {
  readonly #server: Server

  private constructor(answers: AdminAnswers) {
    // An image that is uploaded takes as long as it takes.
    this.#server = createServer(
      { requestTimeout: 0 },
      (request, response) => void answers.answer(request, response, callerOf(request)),
    )
  }

  /**
   * Listens on the socket. A socket that is there already is the rest of a killed server: the
   * caller holds the database, so no living one can be behind it.
   */
  static async listen(path: string, answers: AdminAnswers): Promise<AdminServer> {
    await removeStaleSocket(path)
    const admin = new AdminServer(answers)
    await new Promise<void>((resolve, reject) => {
      admin.#server.once('error', reject)
      // The socket is made inside this call, so nobody ever sees it with wider permissions.
      const umaskBefore = process.umask(SOCKET_UMASK)
      try {
        admin.#server.listen(path, resolve)
      } finally {
        process.umask(umaskBefore)
      }
    })
    return admin
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }
}

/** Its owner says who sits there (sudo has one user more); nothing proves it, and nothing depends on it. */
function callerOf({ headers }: IncomingMessage): Caller {
  const said = headers[CALLER_HEADER]
  const user = typeof said === 'string' ? printable(said).slice(0, USER_LENGTH_MAX) : 'owner'
  return { name: `local:${user}`, role: 'owner' }
}

async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) return await unlink(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
    throw error
  }
  throw new BootwireError(
    'STATE_UNREADABLE',
    `Cannot listen on "${path}": something else than a socket lies there`,
  )
}
