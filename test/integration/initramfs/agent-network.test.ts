/**
 * The agent's own network on the system's card, on real cards of this kernel: a machine and a server in
 * namespaces of their own, with a cable between. Needs root.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { runScript } from '#test/support/child-run.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const SCRIPT = join(import.meta.dirname, '../../../initramfs/agent-network.sh')
const MAC = '52:54:00:00:00:77'

/** Answers each connection with the port and the address it came from. */
const SERVER = `
  const server = require('net').createServer((socket) => {
    socket.end(socket.remoteAddress + ' ' + socket.remotePort)
  })
  server.listen(80, '10.9.0.1', () => console.log('listening'))`

const CLIENT = `
  const socket = require('net').connect({ host: '10.9.0.1', port: 80, timeout: 3000 })
  socket.on('data', (data) => console.log(String(data)))
  socket.on('timeout', () => { console.log('no answer'); socket.destroy() })
  socket.on('error', (error) => console.log(error.code))`

describe('the network of the agent', { timeout: 60_000 }, () => {
  let opened: AsyncDisposableStack
  let folder: TemporaryFolder
  let machine: NetworkNamespace
  let server: NetworkNamespace

  before(async () => {
    opened = new AsyncDisposableStack()
    folder = opened.use(await createTemporaryFolder())
    machine = opened.use(await NetworkNamespace.create())
    server = opened.use(await NetworkNamespace.create())
    await runScript('ip link add bwcard type veth peer name bwlan')
    await machine.takeInterface('bwcard')
    await server.takeInterface('bwlan')
    await server.runScript('ip address add 10.9.0.1/24 dev bwlan; ip link set bwlan up')
    const [program = '', ...args] = server.command([process.execPath, '-e', SERVER])
    const command = ['--pdeathsig', 'KILL', program, ...args]
    const child = spawn('setpriv', command, { stdio: ['ignore', 'pipe', 'inherit'] })
    opened.defer(() => void child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    await machine.runScript(`
      ip link set bwcard address ${MAC} up
      ip address add 10.9.0.2/24 dev bwcard
      ip route add default via 10.9.0.1`)
    const [create, connect] = ['create', 'connect'].map((verb) => [SCRIPT, verb, folder.path])
    await machine.runScript('"$@"', create)
    await machine.runScript('"$@" bwcard 10.9.0.2/24 10.9.0.1', connect)
  })
  after(async () => {
    await runScript('umount "$1"', [join(folder.path, 'network')])
    await opened[Symbol.asyncDispose]()
  })

  const fromSystem = async () => await machine.runScript('"$1" -e "$2"', [process.execPath, CLIENT])
  const fromAgent = async () =>
    await machine.runScript('nsenter --net="$1" "$2" -e "$3"', [
      join(folder.path, 'network'),
      process.execPath,
      CLIENT,
    ])

  const assertAgentIsHeard = async () => {
    const [address, port] = (await fromAgent()).trim().split(' ')
    assert.equal(address, '10.9.0.2')
    assert.ok(Number(port) >= 63_488 && Number(port) <= 64_511, port)
  }

  it('has the address of the system, and ports that the system does not take', async () => {
    await assertAgentIsHeard()
    const [address, port] = (await fromSystem()).trim().split(' ')
    assert.equal(address, '10.9.0.2')
    assert.ok(Number(port) < 63_488, port)
  })

  it('reaches the server when the system has a rule against it', async () => {
    await machine.runScript('ip rule add prohibit to 10.9.0.1 pref 1')
    assert.equal((await fromSystem()).trim(), 'EACCES')
    await assertAgentIsHeard()
    await machine.runScript('ip rule del prohibit to 10.9.0.1 pref 1')
  })

  it('reaches it when the system has dropped its address, or gave the card to a bridge', async () => {
    await machine.runScript('ip address flush dev bwcard')
    // Nobody but the agent answers, when the server asks who has the address.
    await server.runScript('ip neighbor flush dev bwlan')
    await assertAgentIsHeard()
    await machine.runScript('ip link add br0 type bridge; ip link set bwcard master br0 up')
    await assertAgentIsHeard()
  })

  it('reaches it again when the card was down', async () => {
    await machine.runScript('ip link set bwcard down; ip link set bwcard up')
    await assertAgentIsHeard()
  })

  it('may be connected anew', async () => {
    await machine.runScript('"$@" bwcard 10.9.0.2/24 10.9.0.1', [SCRIPT, 'connect', folder.path])
    await assertAgentIsHeard()
  })
})
