/** A descriptor inherited from a process that is not Node's child by accident: as the agent has it. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { it } from 'node:test'
import { NBD, NbdClient } from '#test/support/nbd-client.ts'

const PROCESS = new URL('../../../support/nbd-descriptor-process.ts', import.meta.url).pathname

interface Served {
  readonly child: ChildProcess
  readonly client: NbdClient
  /** What the process says at its end, which must come by itself. */
  readonly ended: Promise<{ end: string; counts: [number, number] }>
}

function startProcess(): Served {
  const child = spawn(process.execPath, [PROCESS], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe', 'ipc'],
  })
  const client = new NbdClient(child.stdio[3] as Duplex)
  const ended = (async () => {
    assert.ok(child.stdout)
    const [said] = await Promise.all([text(child.stdout), once(child, 'exit')])
    return JSON.parse(said)
  })()
  return { child, client, ended }
}

function expected(offset: number, length: number): Buffer {
  return Buffer.from(
    Array.from({ length }, (_, i) => ((offset + i) * 7 + Math.floor((offset + i) / 4096)) & 0xff),
  )
}

it('serveDescriptor answers hits and misses, in any order, until the client disconnects', async () => {
  const { client, ended } = startProcess()
  const reads = Array.from({ length: 400 }, async (_, index) => {
    const offset = (index * 7919 * 512) % (3 * 1024 * 1024)
    const length = 512 * (1 + ((index * 13) % 64))
    const { errno, data } = await client.read(offset, length)
    assert.equal(errno, 0)
    assert.ok(data.equals(expected(offset, length)), `read of ${length} at ${offset}`)
  })
  await Promise.all(reads)
  for (const offset of [8192, 4096]) {
    const bytes = Buffer.alloc(4096, offset / 4096)
    assert.equal((await client.write(offset, bytes)).errno, 0)
    assert.ok((await client.read(offset, 4096)).data.equals(bytes))
  }
  assert.equal((await client.request({ type: NBD.flush })).errno, 0)
  client.disconnect()
  const { end, counts } = await ended
  assert.equal(end, 'disconnect')
  assert.equal(counts[1], 1, 'the hot device is closed')
  assert.ok(counts[0] > 0, 'the hot device is told when nothing is in use')
})

it('serveDescriptor drops waiting reads and ends when the client vanishes', async () => {
  const { client, ended } = startProcess()
  void client.read(4 * 1024 * 1024 - 4096, 4096)
  assert.equal((await client.read(0, 512)).errno, 0, 'a hit passes the miss')
  client.socket.destroy()
  assert.equal((await ended).end, 'eof')
})

it('NbdConnection.close ends a connection that sits in a read', async () => {
  const { child, client, ended } = startProcess()
  assert.equal((await client.read(0, 512)).errno, 0)
  // The kernel, too, hangs up when it reads the end of the stream.
  client.socket.once('end', () => client.socket.destroy())
  child.send('close')
  assert.equal((await ended).end, 'eof')
})
