/** The agent's side of the supervisor's control socket, for agents that tests are made of. */
import { Socket } from 'node:net'
import { createInterface } from 'node:readline'

export class SupervisorControl {
  readonly #socket = new Socket({ fd: Number(process.env['BOOTWIRE_CONTROL_FD']) })
  readonly #answers = createInterface({ input: this.#socket })[Symbol.asyncIterator]()

  /** Sends the line and returns its answer. */
  async ask(line: string): Promise<string> {
    this.send(`${line}\n`)
    return await this.nextAnswer()
  }

  send(bytes: string | Uint8Array): void {
    this.#socket.write(bytes)
  }

  /** @throws when the supervisor closed the socket instead */
  async nextAnswer(): Promise<string> {
    const { value, done } = await this.#answers.next()
    if (done === true) throw new Error('the supervisor closed the control socket')
    return value
  }

  close(): void {
    this.#socket.destroy()
  }
}
