/** Commands for a running QEMU: its machine protocol over a unix socket (QMP; qemu-qmp-ref(7)). */
import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'

interface QmpAnswer {
  readonly return?: unknown
  readonly error?: { readonly desc: string }
}

/** Makes one command and returns when it is done. @throws when QEMU refuses it */
export async function qmpCommand(
  socketPath: string,
  execute: string,
  options: object = {},
): Promise<void> {
  const socket = connect(socketPath)
  await once(socket, 'connect')
  try {
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
    await lines.next() // its greeting
    for (const command of [{ execute: 'qmp_capabilities' }, { execute, arguments: options }]) {
      socket.write(`${JSON.stringify(command)}\n`)
      await answer(lines)
    }
  } finally {
    socket.destroy()
  }
}

/** Events come in between. */
async function answer(lines: AsyncIterator<string>): Promise<void> {
  for (;;) {
    const { value, done } = await lines.next()
    if (done === true) throw new Error('QEMU has closed its control socket')
    const message = JSON.parse(value) as QmpAnswer
    if (message.error !== undefined) throw new Error(`QEMU: ${message.error.desc}`)
    if (message.return !== undefined) return
  }
}
