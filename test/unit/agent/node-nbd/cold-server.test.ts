import assert from 'node:assert/strict'
import { it } from 'node:test'
import { type ColdDevice, NbdError } from '#agent/node-nbd/block-device.ts'
import { ColdChannel, createColdChannel, REQUESTS_MAX } from '#agent/node-nbd/cold-channel.ts'
import { ColdServer } from '#agent/node-nbd/cold-server.ts'
import { NBD } from '#test/support/nbd-client.ts'

const MEMORY_BYTES = 64 * 1024

/** A cold device whose calls end when the test says so. */
class HeldDevice implements ColdDevice {
  readonly calls: {
    readonly name: string
    readonly bytes: Uint8Array
    readonly done: PromiseWithResolvers<void>
  }[] = []

  read(_offset: number, target: Uint8Array): Promise<void> {
    return this.#hold('read', target)
  }

  write(_offset: number, bytes: Uint8Array): Promise<void> {
    return this.#hold('write', bytes)
  }

  flush(): Promise<void> {
    return this.#hold('flush')
  }

  trim(): Promise<void> {
    return this.#hold('trim')
  }

  writeZeroes(): Promise<void> {
    return this.#hold('writeZeroes')
  }

  #hold(name: string, bytes: Uint8Array = new Uint8Array(0)): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.calls.push({ name, bytes, done })
    return done.promise
  }
}

function start() {
  const memory = createColdChannel()
  // Two sides, as two threads have them.
  const main = new ColdChannel(memory)
  const worker = new ColdChannel(memory)
  const device = new HeldDevice()
  const payload = new SharedArrayBuffer(MEMORY_BYTES)
  const parts = { channel: main, device, payload, memory: new SharedArrayBuffer(MEMORY_BYTES) }
  const ended = new ColdServer(parts).run()
  const ask = async (type: number, length: number, cookieLow = 0) => {
    const place = { offset: 2 ** 40 + 512, length, cookieHigh: -1, cookieLow }
    worker.pushRequest({ type, flags: 0, ...place })
    worker.ringDoorbell()
    await turns()
  }
  return { worker, device, ask, ended, payload }
}

/** The doorbell is heard a few turns of the event loop after it rang. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate)
}

it('ColdServer answers in the order the device does', async () => {
  const { worker, device, ask } = start()
  await ask(NBD.read, 512, 1)
  await ask(NBD.read, 1024, 2)
  device.calls[1]?.done.resolve()
  await turns()
  assert.equal(worker.answersWaiting, 1)
  const { memoryAt, ...answer } = worker.answer(0)
  assert.deepEqual(answer, {
    type: NBD.read,
    errno: 0,
    cookieHigh: -1,
    cookieLow: 2,
    offset: 2 ** 40 + 512,
    length: 1024,
  })
  assert.equal(memoryAt, 512)
  worker.close()
})

it('ColdServer answers with the number of an NbdError, and EIO for anything else', async () => {
  const { worker, device, ask } = start()
  for (const error of [new NbdError(28, 'full'), new Error('what'), new NbdError(30, 'EROFS')]) {
    await ask(NBD.read, 512)
    device.calls.at(-1)?.done.reject(error)
    await turns()
  }
  assert.deepEqual(
    [0, 1, 2].map((index) => worker.answer(index).errno),
    [28, 5, 1],
  )
  worker.close()
})

it('ColdServer leaves requests in the ring until there is memory for them', async () => {
  const { worker, device, ask } = start()
  for (let cookie = 0; cookie < 6; cookie += 1) await ask(NBD.read, MEMORY_BYTES / 4, cookie)
  assert.equal(device.calls.length, 4)
  assert.equal(worker.requestsEmpty, false)
  device.calls[2]?.done.resolve()
  await turns()
  assert.equal(device.calls.length, 4, 'an answer that is not sent still takes memory')
  worker.setSent(1)
  await turns()
  assert.equal(device.calls.length, 5)
  worker.close()
})

it('ColdServer works on no more requests than the answers have room for', async () => {
  const { worker, device, ask } = start()
  for (let count = 0; count < 200; count += 1) await ask(NBD.flush, 0)
  assert.equal(device.calls.length, 128)
  for (const { done } of device.calls) done.resolve()
  await turns()
  assert.equal(worker.answersWaiting, 128)
  worker.setSent(128)
  await turns()
  assert.equal(device.calls.length, 200)
  worker.close()
})

it('ColdServer takes the payload of a write over before the next may come', async () => {
  const { worker, device, ask, payload } = start()
  const bytes = new Uint8Array(payload)
  bytes.fill(1, 0, 512)
  await ask(NBD.write, 512)
  assert.ok(worker.requestsEmpty)
  bytes.fill(2)
  assert.ok(device.calls[0]?.bytes.every((byte) => byte === 1))
  worker.close()
})

it('ColdServer ends when the channel is closed, whatever is in flight', async () => {
  const { worker, device, ask, ended } = start()
  await ask(NBD.read, 512)
  worker.close()
  await ended
  device.calls[0]?.done.resolve()
  await turns()
  assert.equal(worker.answersWaiting, 0)
})

it('ColdChannel is full at its limit, and in order over any number of turns around', async () => {
  const channel = new ColdChannel(createColdChannel())
  const request = { type: 0, flags: 0, cookieHigh: 0, offset: 0, length: 0 }
  let pushed = 0
  let taken = 0
  for (let round = 0; round < 10; round += 1) {
    for (; !channel.requestsFull; pushed += 1) {
      channel.pushRequest({ ...request, cookieLow: pushed })
    }
    assert.equal(pushed - taken, REQUESTS_MAX)
    for (let count = 0; count < 100 + round; count += 1, taken += 1) {
      assert.equal(channel.firstRequest()?.cookieLow, taken)
      channel.takeRequest()
    }
  }
})
