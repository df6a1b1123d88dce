/**
 * An agent for tests of the supervisor on a real kernel: serves a file as /dev/nbd0. What it was
 * answered stands in AGENT_STATE. SIGHUP has it detach and exit, SIGUSR2 has its heap run over.
 *
 * usage: supervisor-agent.ts FILE SIZE_BYTES [IO_TIMEOUT_MS]
 */
import { spawn } from 'node:child_process'
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { type Export, kernelFlags, serveDescriptor } from '#agent/node-nbd/index.ts'
import { SupervisorControl } from './supervisor-control.ts'
import {
  AGENT_STATE,
  type AgentState,
  BACKEND_ID,
  DETACH_FIRST,
  HOLD_SOCKET,
} from './supervisor-guest.ts'

const NBD_FD = Number(process.env['BOOTWIRE_NBD_FD'])

const [path = '', sizeBytes = '', ioTimeoutMs = '2000'] = process.argv.slice(2)
const control = new SupervisorControl()
const disk: Export = {
  name: '',
  description: '',
  sizeBytes: Number(sizeBytes),
  readOnly: false,
  minimumBlockBytes: 512,
  preferredBlockBytes: 4096,
  maximumBlockBytes: 32 * 1024 * 1024,
  hot: { moduleUrl: new URL('supervisor-file-device.ts', import.meta.url).href, data: path },
}
const connection = serveDescriptor({ fd: NBD_FD, export: disk })
const attach = async (sizeBytes: string) =>
  await control.ask(`attach 0 ${sizeBytes} 4096 ${kernelFlags(disk)} ${BACKEND_ID}`)
const restarts = Number(process.env['BOOTWIRE_RESTARTS'])
const otherSize = restarts > 0 ? await attach('4096') : undefined
if (existsSync(DETACH_FIRST)) await control.ask('detach 0')
const answer = await attach(sizeBytes)
const again = answer.startsWith('ok') ? await attach(sizeBytes) : undefined
if (answer.startsWith('ok')) writeFileSync('/sys/block/nbd0/queue/io_timeout', ioTimeoutMs)
if (existsSync(HOLD_SOCKET)) holdSocket()
process.on('SIGUSR2', () => fillHeap())
process.on('SIGHUP', () => void detach())
writeState({ pid: process.pid, restarts, answer, otherSize, again })
if (!answer.startsWith('ok')) process.exit(1)
flushCompileCache() // for the next agent: this one may not live until it exits

function writeState(state: AgentState): void {
  writeFileSync(`${AGENT_STATE}.new`, JSON.stringify(state))
  renameSync(`${AGENT_STATE}.new`, AGENT_STATE)
}

/** Leaves a process behind that has the agent's end of the NBD socket, as no helper should. */
function holdSocket(): void {
  const script = `echo $$ >${HOLD_SOCKET}; exec sleep 1000`
  spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'ignore', NBD_FD], detached: true })
}

async function detach(): Promise<void> {
  const answer = await control.ask('detach 0')
  writeState({ pid: process.pid, restarts, answer })
  await connection.closed
  process.exit(answer.startsWith('ok') ? 0 : 1)
}

function fillHeap(): never {
  for (const kept: object[] = []; ; ) kept.push({})
}
