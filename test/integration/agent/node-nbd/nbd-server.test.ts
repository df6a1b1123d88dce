/** Clients that misbehave, devices that do not answer: nobody else is to feel it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { it } from 'node:test'
import { NbdError, NbdServer } from '#agent/node-nbd/index.ts'
import { MiB } from '#shared/units.ts'
import { runProgram } from '#test/support/child-run.ts'
import { eventually } from '#test/support/eventually.ts'
import { connectNbd, encodeRequest, NBD } from '#test/support/nbd-client.ts'
import { HOT_MODULE, startNbdServer } from '#test/support/nbd-server-fixture.ts'

const TRANSMISSIONS = ['workers', 'event-loop'] as const

/** Sends the bytes and resolves when the server has hung up. */
async function hungUp(socket: Socket): Promise<void> {
  socket.on('error', () => {})
  socket.resume()
  if (!socket.closed) await once(socket, 'close')
}

it('NbdServer turns clients away beyond its limit, and takes new ones when others have left', async () => {
  await using fixture = await startNbdServer({ server: { connectionsMax: 2 } })
  const first = await connectNbd(fixture.socketPath)
  const second = await connectNbd(fixture.socketPath)
  await assert.rejects(connectNbd(fixture.socketPath))
  first.disconnect()
  await eventually('one has left', () => fixture.ends.length === 1)
  const third = await connectNbd(fixture.socketPath)
  assert.equal((await third.read(0, 512)).errno, 0)
  for (const client of [second, third]) client.disconnect()
})

it('NbdServer drops a client that does not finish its handshake', async () => {
  await using fixture = await startNbdServer({ server: { handshakeTimeoutMs: 200 } })
  const socket = connect(fixture.socketPath)
  socket.write(Buffer.from([0, 0, 0, 3, 0x49]))
  await hungUp(socket)
})

it('NbdServer drops a client that does not speak the protocol', async () => {
  await using fixture = await startNbdServer()
  const socket = connect(fixture.socketPath)
  socket.write('GET / HTTP/1.1\r\nHost: here\r\n\r\n')
  await hungUp(socket)
})

it('NbdServer closes while a client is in its handshake', async () => {
  const fixture = await startNbdServer()
  const socket = connect(fixture.socketPath)
  await once(socket, 'readable')
  await fixture[Symbol.asyncDispose]()
  await hungUp(socket)
})

it('NbdServer.listen rejects when the address is in use', async () => {
  await using fixture = await startNbdServer()
  const listening = NbdServer.listen({ socketPath: fixture.socketPath, exports: [] })
  await assert.rejects(listening, { code: 'EADDRINUSE' })
})

for (const transmission of TRANSMISSIONS) {
  it(`NbdServer drops a client after garbage, and serves the others: ${transmission}`, async () => {
    await using fixture = await startNbdServer({ server: { transmission } })
    const [bad, good] = [await connectNbd(fixture.socketPath), await connectNbd(fixture.socketPath)]
    bad.socket.write(Buffer.alloc(4096, 0xff))
    await hungUp(bad.socket as Socket)
    await eventually('the end is told', () => fixture.ends.length === 1)
    assert.match(String(fixture.ends[0]), /expected magic 0x25609513, got 0xffffffff/)
    assert.equal((await good.read(0, 512)).errno, 0)
    good.disconnect()
    await eventually('both devices are closed', () => fixture.closedDevices() === 2)
  })

  it(`a cold request never holds up hits: ${transmission}`, async () => {
    await using fixture = await startNbdServer({
      server: { transmission },
      cold: { read: () => new Promise(() => {}) },
    })
    fixture.absent[1] = 1
    const client = await connectNbd(fixture.socketPath)
    for (let count = 0; count < 50; count += 1) void client.read(4096, 4096)
    for (let count = 0; count < 50; count += 1) {
      assert.equal((await client.read(8192, 4096)).errno, 0)
    }
    assert.equal(client.waiting, 50)
    client.socket.destroy()
    await eventually('the connection has ended', () => fixture.ends.length === 1)
    assert.deepEqual(fixture.ends, ['eof'])
    assert.equal(fixture.closedDevices(), 1)
  })

  it(`a cold request that fails is answered with its error: ${transmission}`, async () => {
    const errors = [new NbdError(28, 'full'), new Error('what'), new NbdError(12, 'memory')]
    await using fixture = await startNbdServer({
      server: { transmission },
      cold: { read: () => Promise.reject(errors.shift() ?? new Error('no more')) },
    })
    fixture.absent.fill(1)
    const client = await connectNbd(fixture.socketPath)
    const errnos = []
    for (let count = 0; count < 3; count += 1) errnos.push((await client.read(0, 512)).errno)
    assert.deepEqual(errnos, [28, 5, 12])
    client.disconnect()
  })

  it(`a client that asks and never reads holds up nobody else: ${transmission}`, async () => {
    await using fixture = await startNbdServer({ server: { transmission } })
    for (let block = 0; block < fixture.absent.length; block += 2) fixture.absent[block] = 1
    fixture.memory.fill(9)
    const [flood, good] = [
      await connectNbd(fixture.socketPath),
      await connectNbd(fixture.socketPath),
    ]
    flood.socket.pause()
    const read = encodeRequest({ type: NBD.read, offset: 0, length: MiB }, 1n)
    for (let count = 0; count < 500; count += 1) flood.socket.write(read)
    for (let count = 0; count < 20; count += 1) {
      assert.ok((await good.read(0, 8192)).data.every((byte) => byte === 9))
    }
    good.disconnect()
    flood.socket.destroy()
    await eventually('both have ended', () => fixture.ends.length === 2)
  })

  it(`far more cold data than memory is answered piece by piece: ${transmission}`, async () => {
    await using fixture = await startNbdServer({ sizeBytes: 16 * MiB, server: { transmission } })
    fixture.memory.fill(5)
    fixture.absent.fill(1)
    const client = await connectNbd(fixture.socketPath)
    for (let round = 0; round < 3; round += 1) {
      const replies = Array.from({ length: 6 }, () => client.read(0, 16 * MiB))
      for (const { errno, data } of await Promise.all(replies)) {
        assert.equal(errno, 0)
        assert.ok(data[0] === 5 && data.at(-1) === 5)
      }
    }
    client.disconnect()
  })
}

it('more cold requests than the ring holds wait their turn', async () => {
  const gate = Promise.withResolvers<void>()
  await using fixture = await startNbdServer({ cold: { read: () => gate.promise } })
  fixture.absent[0] = 1
  const client = await connectNbd(fixture.socketPath)
  const replies = Array.from({ length: 1000 }, () => client.read(0, 512))
  gate.resolve()
  for (const { errno } of await Promise.all(replies)) assert.equal(errno, 0)
  client.disconnect()
})

it('a worker that waits for room has sent its replies and let go of the device', async () => {
  await using fixture = await startNbdServer({ cold: { read: () => new Promise(() => {}) } })
  fixture.absent[0] = 1
  const client = await connectNbd(fixture.socketPath)
  // All in one write, so that the worker finds them in one read.
  client.socket.cork()
  const hit = client.read(4096, 512)
  for (let count = 0; count < 1000; count += 1) void client.read(0, 512)
  client.socket.uncork()
  assert.equal((await hit).errno, 0)
  client.socket.destroy()
})

it('NbdServer.close ends a connection that waits for room for cold requests', async () => {
  await using fixture = await startNbdServer({ cold: { read: () => new Promise(() => {}) } })
  fixture.absent[0] = 1
  const client = await connectNbd(fixture.socketPath)
  for (let count = 0; count < 1000; count += 1) void client.read(0, 512)
  await eventually('requests are on their way', () => client.waiting === 1000)
})

it('NbdServer listens on TCP', async () => {
  await using fixture = await startNbdServer()
  const server = await NbdServer.listen({
    host: '127.0.0.1',
    port: 0,
    exports: [
      {
        name: 'disk',
        description: '',
        sizeBytes: fixture.memory.length,
        readOnly: true,
        minimumBlockBytes: 1,
        preferredBlockBytes: 4096,
        maximumBlockBytes: MiB,
        hot: { moduleUrl: HOT_MODULE, data: fixture.data },
      },
    ],
  })
  const size = await runProgram('nbdinfo', ['--size', `nbd://127.0.0.1:${server.port}/disk`])
  assert.equal(Number(size), fixture.memory.length)
  await server.close()
})
