/** A TPM 2.0 in software (swtpm), which takes commands over a socket as a device does. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Tpm } from '#agent/identity/tpm-key.ts'
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
  await eventually('the TPM listens', () => existsSync(path))
  const socket = connect(path)
  await once(socket, 'connect')
  const exchange = async (bytes: Buffer): Promise<Buffer> => {
    socket.write(bytes)
    const [response] = (await once(socket, 'data')) as [Buffer]
    return response
  }
  const close = async () => {
    socket.destroy()
    child.kill('SIGTERM')
    await exited
    rmSync(path, { force: true })
  }
  return { tpm: { exchange, close }, [Symbol.asyncDispose]: close }
}
