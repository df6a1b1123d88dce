/** A TPM 2.0 in software (swtpm), which takes commands over a socket as a device does. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Tpm } from '#agent/identity/tpm-key.ts'
import { invariant } from '#shared/invariant.ts'
import { eventually } from './eventually.ts'

export interface SoftwareTpm extends AsyncDisposable {
  readonly tpm: Tpm
}

/** `stateFolder` is what makes it the same TPM again. */
export async function startSoftwareTpm(stateFolder: string): Promise<SoftwareTpm> {
  const path = join(stateFolder, 'socket')
  const options = ['--tpm2', '--tpmstate', `dir=${stateFolder}`, '--flags', 'startup-clear']
  const command = ['socket', ...options, '--server', `type=unixio,path=${path}`]
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'swtpm', ...command], { stdio: 'inherit' })
  const exited = once(child, 'exit')
  let socket: Socket | undefined
  try {
    // The socket is there before anybody listens on it.
    await eventually('the TPM listens', async () => {
      socket = await tryConnect(path)
      return socket !== undefined
    })
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
  invariant(socket !== undefined, 'the TPM listens')
  const connected = socket
  const exchange = async (bytes: Buffer): Promise<Buffer> => {
    connected.write(bytes)
    const [response] = (await once(connected, 'data')) as [Buffer]
    return response
  }
  const close = async () => {
    connected.destroy()
    child.kill('SIGTERM')
    await exited
    rmSync(path, { force: true })
  }
  return { tpm: { exchange, close }, [Symbol.asyncDispose]: close }
}

async function tryConnect(path: string): Promise<Socket | undefined> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return socket
  } catch {
    socket.destroy()
    return undefined
  }
}
