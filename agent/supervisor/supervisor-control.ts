/**
 * Talks to the supervisor (ARCHITECTURE.md, "The supervisor"), which does what Node cannot: netlink
 * and kexec. One line each way, in order.
 */
import { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'

export interface AttachOptions {
  /** N of /dev/nbdN. */
  readonly index: number
  readonly sizeBytes: number
  readonly blockBytes: number
  /** Transmission flags as the NBD handshake has them. */
  readonly flags: number
  /** Without blanks. Another process may take the device over only with the same. */
  readonly backendId: string
}

/** The main thread never stands still so long, also on a machine that is short of everything. */
const PROMISE_SECONDS = 60
const PROMISE_INTERVAL_MS = 5_000

export class SupervisorControl {
  readonly #socket: Socket
  readonly #answers: AsyncIterator<string>

  constructor(socket: Socket) {
    this.#socket = socket
    this.#socket.on('error', () => undefined) // the answer that does not come tells
    this.#answers = createInterface({ input: this.#socket })[Symbol.asyncIterator]()
    this.#socket.unref()
  }

  /** Takes the descriptor that the supervisor left to this process. */
  static fromDescriptor(fd: number): SupervisorControl {
    return new SupervisorControl(new Socket({ fd, readable: true, writable: true }))
  }

  /** @throws {BootwireError} ATTACH_FAILED */
  async attach({ index, sizeBytes, blockBytes, flags, backendId }: AttachOptions): Promise<void> {
    const request = `attach ${index} ${sizeBytes} ${blockBytes} ${flags} ${backendId}`
    await this.#ask(request, 'ATTACH_FAILED', `Cannot attach /dev/nbd${index}`)
  }

  /** @throws {BootwireError} ATTACH_FAILED */
  async detach(index: number): Promise<void> {
    await this.#ask(`detach ${index}`, 'ATTACH_FAILED', `Cannot detach /dev/nbd${index}`)
  }

  /** From now on an agent whose main thread hangs for a minute is ended, and another one started. */
  watchMe(): void {
    const promise = () =>
      this.#ask(`alive ${PROMISE_SECONDS}`, 'INTERNAL', 'Cannot be watched').catch(() => undefined)
    void promise()
    setInterval(() => void promise(), PROMISE_INTERVAL_MS).unref()
  }

  /** Starts another kernel; comes back only with an error. @throws {BootwireError} KEXEC_FAILED */
  async kexec(kernelPath: string, initrdPath: string, cmdline: string): Promise<never> {
    const request = `kexec ${kernelPath} ${initrdPath} ${cmdline}`
    await this.#ask(request, 'KEXEC_FAILED', 'Cannot start the kernel of this vDisk')
    throw new BootwireError(
      'KEXEC_FAILED',
      'Cannot start the kernel of this vDisk: nothing happened',
    )
  }

  async #ask(request: string, code: ErrorCode, what: string): Promise<void> {
    invariant(!request.includes('\n'), `a request of more than one line: ${request}`)
    this.#socket.ref()
    try {
      this.#socket.write(`${request}\n`)
      const { done, value: answer } = await this.#answers.next()
      if (done === true) throw new BootwireError(code, `${what}: the supervisor is gone`)
      if (answer === 'ok' || answer.startsWith('ok ')) return
      throw new BootwireError(code, `${what}: ${answer.replace(/^error \d+ /, '')}`)
    } finally {
      this.#socket.unref()
    }
  }
}
