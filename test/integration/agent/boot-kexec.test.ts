/** A vDisk with another kernel: loaded from a server that fails first, and refused by the machine. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { it } from 'node:test'
import type { AgentContext } from '#agent/boot/agent-context.ts'
import { bootClient } from '#agent/boot/boot-client.ts'
import { NETWORK_FILE } from '#agent/boot/network.ts'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { renderAssignments } from '#agent/boot/shell-assignments.ts'
import { Consoles } from '#agent/screen/consoles.ts'
import { SupervisorControl } from '#agent/supervisor/supervisor-control.ts'
import { BOOT_ID } from '#test/support/agent-messages.ts'
import { createServerKey, openedBy, ScriptedServer } from '#test/support/agent-scripted-server.ts'
import { createSession } from '#test/support/agent-session.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const KERNEL = 'a kernel'
const KERNEL_ID = createHash('sha256').update(KERNEL).digest('hex')

it('a kernel is asked for until it comes; the server learns why it was refused', {
  timeout: 30_000,
}, async () => {
  await using temporary = await createTemporaryFolder()
  const key = await createServerKey()
  await using server = await ScriptedServer.start(key)
  const runFolder = new RunFolder(temporary.path)
  runFolder.write(NETWORK_FILE, renderAssignments({ STATE: 'up', INTERFACE: 'x', ADDRESS: 'y' }))
  const asked: string[] = []
  server.onRequest((request, response) => {
    asked.push(request.url ?? '')
    if (asked.length === 1) response.socket?.destroy()
    else response.end(request.url === '/vmlinuz' ? KERNEL : 'an archive')
  })
  await using sessions = new AsyncDisposableStack()
  const [agentEnd, supervisor] = await socketPair()
  let request = ''
  supervisor.once('data', (bytes) => {
    request = bytes.toString()
    assert.ok(existsSync(runFolder.pathOf('kexec/initrd.img')))
    supervisor.write('error 1 the kernel cannot be loaded\n')
  })
  const booting = bootClient({
    context: contextFor(server),
    runFolder,
    consoles: new Consoles([]),
    supervisor: new SupervisorControl(agentEnd),
    startedUptimeSeconds: 1,
    areaBytes: async () => undefined,
    machine: async () => ({ hasLocalDisk: false, hasKey: false }),
    setClock: () => undefined,
    attach: () => assert.fail('nothing is attached'),
    downloadPauseMs: 1,
    newSession: (context) => {
      const session = createSession(server, { bootId: context.bootId })
      return sessions.use(session)
    },
  })
  const first = await server.nextPeer()
  await first.greet()
  const kernel = {
    id: KERNEL_ID,
    release: '6.1.0',
    kernelPath: '/vmlinuz',
    initrdPaths: ['/agent.img'],
  }
  first.say(openedBy(key, { kernel }))
  const failed = assert.rejects(booting, { code: 'KEXEC_FAILED', message: /cannot be loaded$/ })
  for (let kind = ''; kind !== 'bye'; ) kind = (await first.nextAny()).kind
  first.websocket.close(1000)
  await failed
  assert.deepEqual(asked, ['/vmlinuz', '/vmlinuz', '/agent.img'])
  assert.match(request, /^kexec \S+\/vmlinuz \S+\/initrd\.img quiet bootwire\.servers=/)
  assert.ok(request.includes(` bootwire.kernel=${KERNEL_ID} `))
  assert.match(request, / bootwire\.vdisk=debian\n$/)
  assert.equal(existsSync(runFolder.pathOf('kexec')), false)
  const second = await server.nextPeer()
  await second.greet()
  assert.match((await second.nextMessage('notice')).message, /the kernel cannot be loaded$/)
  supervisor.destroy()
})

function contextFor({ port, pin }: ScriptedServer): AgentContext {
  return {
    version: '0.1.0',
    programFolder: '/nowhere',
    controlFd: -1,
    nbdFd: -1,
    cmdline: 'quiet',
    parameters: { servers: [{ host: '127.0.0.1', port }], pin, kernelId: 'cafe0123' },
    bootId: BOOT_ID,
  }
}

async function socketPair(): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const one = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [other] = (await once(server, 'connection')) as [Socket]
  server.close()
  return [one, other]
}
