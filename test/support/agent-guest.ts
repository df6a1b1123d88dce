/**
 * Inside a User-mode Linux (fault-site.ts): the initramfs' supervisor with the product's agent serves
 * /dev/nbd0 over a network, as on a machine without a disk.
 */
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { eventually } from './eventually.ts'

export interface AgentGuest {
  readonly supervisor: string
  /** The bundled agent. */
  readonly agent: string
  readonly address: string
}

const RUN = '/run/bootwire'
export const READY_TIMEOUT_MS = 60_000

/** Returns when the device is there. What init and scripts of the initramfs do for the agent is done here. */
export async function startAgent({ supervisor, agent, address }: AgentGuest): Promise<void> {
  spawnSync('ip', ['address', 'add', `${address}/24`, 'dev', 'vec0'])
  spawnSync('ip', ['link', 'set', 'vec0', 'up'])
  mkdirSync(`${RUN}/write-cache`, { recursive: true })
  spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', `${RUN}/write-cache`])
  writeFileSync(`${RUN}/network.env`, `STATE='up'\nINTERFACE='vec0'\nADDRESS='${address}/24'\n`)
  const log = openSync(`${RUN}/agent.log`, 'w')
  spawn(supervisor, ['--', process.execPath, '--disable-warning=ExperimentalWarning', agent], {
    stdio: ['ignore', log, log],
    env: { ...process.env, UV_THREADPOOL_SIZE: '8' },
  })
  closeSync(log)
  try {
    await eventually('the device is attached', () => exists(`${RUN}/root.env`), READY_TIMEOUT_MS)
  } catch (error) {
    process.stdout.write(`${readFileSync(`${RUN}/agent.log`, 'utf8')}\n`)
    throw error
  }
  writeFileSync(`${RUN}/root-mounted`, '')
}

/** As a crash does. */
export function killAgent(): void {
  spawnSync('pkill', ['-KILL', '-f', '^@bootwire-agent'])
}

export function exists(path: string): boolean {
  try {
    readFileSync(path)
    return true
  } catch (error) {
    // A socket cannot be read, and is there.
    return error instanceof Error && 'code' in error && error.code === 'ENXIO'
  }
}
