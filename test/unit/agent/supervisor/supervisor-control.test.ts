/** The agent's requests, over a socket pair whose other end the test plays. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { SupervisorControl } from '#agent/supervisor/supervisor-control.ts'

const ATTACH = { index: 0, sizeBytes: 4096, blockBytes: 512, flags: 5, backendId: 'bootwire:x:y' }

describe('SupervisorControl', { timeout: 10_000 }, () => {
  let server: Server
  let agentEnd: Socket
  let peer: Socket
  let requests: AsyncIterator<string>
  let control: SupervisorControl

  beforeEach(async () => {
    server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    agentEnd = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' })
    const [accepted] = (await once(server, 'connection')) as [Socket]
    await once(agentEnd, 'connect')
    peer = accepted
    requests = createInterface({ input: peer })[Symbol.asyncIterator]()
    control = new SupervisorControl(agentEnd)
  })
  afterEach(async () => {
    peer.destroy()
    server.close()
    await once(server, 'close')
  })

  const nextRequest = async () => (await requests.next()).value as string

  it('sends one line for each request, and takes any ok for done', async () => {
    const attached = control.attach(ATTACH)
    assert.equal(await nextRequest(), 'attach 0 4096 512 5 bootwire:x:y')
    peer.write('ok connected\n')
    await attached
    const detached = control.detach(0)
    assert.equal(await nextRequest(), 'detach 0')
    peer.write('ok\n')
    await detached
  })

  it('gives requests their answers in order, however these are cut', async () => {
    const first = control.detach(1)
    const second = control.attach(ATTACH)
    await nextRequest()
    await nextRequest()
    peer.write('error 16 the device')
    peer.write(' is in use\nok conn')
    await assert.rejects(first, {
      code: 'ATTACH_FAILED',
      message: 'Cannot detach /dev/nbd1: the device is in use',
    })
    peer.write('ected\n')
    await second
  })

  it('ATTACH_FAILED: what is no answer is shown as it is', async () => {
    const attached = control.attach(ATTACH)
    await nextRequest()
    peer.write('okay\n')
    await assert.rejects(attached, { message: 'Cannot attach /dev/nbd0: okay' })
  })

  it('KEXEC_FAILED: with the reason, and when it came back without one', async () => {
    const refused = control.kexec('/run/k', '/run/i', 'quiet root=x')
    assert.equal(await nextRequest(), 'kexec /run/k /run/i quiet root=x')
    peer.write('error 1 the kernel cannot be loaded\n')
    await assert.rejects(refused, {
      code: 'KEXEC_FAILED',
      message: 'Cannot start the kernel of this vDisk: the kernel cannot be loaded',
    })
    const nothing = control.kexec('/k', '/i', '')
    await nextRequest()
    peer.write('ok\n')
    await assert.rejects(nothing, { code: 'KEXEC_FAILED', message: /nothing happened$/ })
  })

  it('says so when the supervisor is gone, before and after', async () => {
    const attached = control.attach(ATTACH)
    await nextRequest()
    peer.destroy()
    const gone = { code: 'ATTACH_FAILED', message: /: the supervisor is gone$/ }
    await assert.rejects(attached, gone)
    await assert.rejects(control.detach(0), gone)
  })

  it('never sends two lines for one', async () => {
    await assert.rejects(control.kexec('/k', '/i', 'quiet\ndetach 0'), /more than one line/)
  })
})
