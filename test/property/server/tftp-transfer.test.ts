/** A TFTP transfer over a link that loses, doubles and turns packets, to a client as the RFCs have it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { TftpTransfer, type TransferStep } from '#server/pxe/tftp-transfer.ts'

/** Of 3,600 transfers the longest took 58,000: blocks of 8 bytes in windows of 64, with 30 % of everything. */
const STEPS_MAX = 1_000_000

/** RFC 1350, 2347 and 7440 from the client's side: in order, or the last one in order once more. */
class ModelClient {
  readonly #parts: Buffer[] = []
  readonly #blockBytes: number
  readonly #window: number
  #block = 0
  #inWindow = 0
  #isComplete = false

  constructor(blockBytes: number, window: number) {
    this.#blockBytes = blockBytes
    this.#window = window
  }

  get file(): Buffer | undefined {
    return this.#isComplete ? Buffer.concat(this.#parts) : undefined
  }

  /** Returns the number it acknowledges, if it says anything. */
  take(packet: Buffer): number | undefined {
    if (packet.readUInt16BE(0) === 6) return this.#block === 0 ? 0 : undefined
    const number = packet.readUInt16BE(2)
    if (number !== ((this.#block + 1) & 0xffff)) {
      this.#inWindow = 0
      return this.#block & 0xffff
    }
    this.#block += 1
    const data = packet.subarray(4)
    this.#parts.push(Buffer.from(data))
    this.#isComplete = data.length < this.#blockBytes
    this.#inWindow += 1
    if (!this.#isComplete && this.#inWindow < this.#window) return undefined
    this.#inWindow = 0
    return number
  }
}

interface Link {
  readonly percentLost: number
  readonly percentDoubled: number
  readonly percentTurned: number
}

/** Returns what the client has in the end, and how many packets the server has sent. */
function run(
  transfer: TftpTransfer,
  link: Link,
  seed: number,
): { readonly file: Buffer | undefined; readonly sent: number; readonly end: string } {
  let state = seed | 1
  const chance = (percent: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff
    return (state >> 8) % 100 < percent
  }
  const client = new ModelClient(transfer.blockBytes, transfer.windowBlocks)
  const toClient: Buffer[] = []
  const toServer: number[] = []
  let sent = 0
  const put = <Item>(queue: Item[], item: Item) => {
    if (chance(link.percentLost)) return
    if (chance(link.percentTurned)) queue.unshift(item)
    else queue.push(item)
    if (chance(link.percentDoubled)) queue.push(item)
  }
  const send = (packets: readonly Buffer[]) => {
    sent += packets.length
    for (const packet of packets) put(toClient, packet)
  }
  const follow = (step: TransferStep): string | undefined => {
    if (step.state !== 'going') return step.state
    send(step.packets)
    return undefined
  }
  send(transfer.packets())
  for (let steps = 0; steps < STEPS_MAX; steps += 1) {
    const packet = toClient.shift()
    if (packet !== undefined) {
      const ack = client.take(packet)
      if (ack !== undefined) put(toServer, ack)
      continue
    }
    const ack = toServer.shift()
    const end = follow(ack === undefined ? transfer.timeout() : transfer.acknowledge(ack))
    if (end !== undefined) return { file: client.file, sent, end }
  }
  return { file: client.file, sent, end: 'endless' }
}

const SOUND: Link = { percentLost: 0, percentDoubled: 0, percentTurned: 0 }

const options = fc.record(
  {
    blksize: fc.integer({ min: 8, max: 2000 }),
    windowsize: fc.integer({ min: 1, max: 100 }),
    tsize: fc.constant(0),
  },
  { requiredKeys: [] },
)

const asOptions = (values: Readonly<Record<string, number>>) =>
  new Map(Object.entries(values).map(([name, value]) => [name, String(value)]))

const content = (length: number) => Buffer.from(Array.from({ length }, (_, at) => (at * 7) & 255))

describe('a TFTP transfer', () => {
  it('brings the file over a sound link, each block once', () => {
    fc.assert(
      fc.property(fc.nat(20_000), options, (length, values) => {
        const file = content(length)
        const transfer = new TftpTransfer(file, asOptions(values))
        const { file: got, sent, end } = run(transfer, SOUND, 1)
        assert.equal(end, 'done')
        assert.deepEqual(got, file)
        const hasOptions = Object.keys(values).length > 0
        const blocks = Math.floor(length / transfer.blockBytes) + 1
        assert.equal(sent, blocks + (hasOptions ? 1 : 0))
      }),
    )
  })

  it('brings the file or gives up over one that loses, doubles and turns packets', () => {
    const link = fc.record({
      percentLost: fc.nat(30),
      percentDoubled: fc.nat(30),
      percentTurned: fc.nat(30),
    })
    let done = 0
    fc.assert(
      fc.property(fc.nat(6000), options, link, fc.nat(), (length, values, link, seed) => {
        const file = content(length)
        const transfer = new TftpTransfer(file, asOptions(values))
        const { file: got, end } = run(transfer, link, seed)
        assert.notEqual(end, 'endless')
        if (end !== 'done') return
        done += 1
        assert.deepEqual(got, file)
      }),
    )
    assert.ok(done > 50, `${done} of 100 arrived`)
  })

  it('a packet that the network doubles does not double all that follow', () => {
    const link = { percentLost: 0, percentDoubled: 50, percentTurned: 0 }
    fc.assert(
      fc.property(fc.nat(6000), fc.nat(), (length, seed) => {
        const transfer = new TftpTransfer(content(length), new Map())
        const { sent, end } = run(transfer, link, seed)
        assert.equal(end, 'done')
        assert.equal(sent, Math.floor(length / transfer.blockBytes) + 1)
      }),
    )
  })

  it('counts blocks on beyond 65535', () => {
    const file = content(8 * 65_600)
    const transfer = new TftpTransfer(
      file,
      new Map([
        ['blksize', '8'],
        ['windowsize', '64'],
      ]),
    )
    let packets = transfer.packets()
    const client = new ModelClient(8, 64)
    for (;;) {
      const acks = packets.map((packet) => client.take(packet)).filter((ack) => ack !== undefined)
      const step = transfer.acknowledge(acks.at(-1) ?? -1)
      if (step.state !== 'going') break
      packets = step.packets
    }
    assert.deepEqual(client.file, file)
  })

  it('agrees to what fits, and says nothing of what it does not know', () => {
    const agreed = (pairs: Readonly<Record<string, string>>) =>
      new TftpTransfer(content(100), new Map(Object.entries(pairs)))
        .packets()[0]
        ?.toString('latin1')
    assert.equal(
      agreed({ blksize: '65464', windowsize: '1000', tsize: '0', timeout: '3', x: '1' }),
      '\0\x06blksize\x001468\0windowsize\x0064\0tsize\x00100\0timeout\x003\0',
    )
    for (const nonsense of [
      { blksize: '7' },
      { windowsize: '0' },
      { blksize: '-1' },
      { timeout: '0' },
    ]) {
      assert.equal(agreed(nonsense)?.slice(0, 4), '\0\x03\0\x01', 'data at once')
    }
  })

  it('gives up on who never answers after four tries, and after six on who did', () => {
    const tries = (transfer: TftpTransfer) => {
      let count = 1
      while (transfer.timeout().state === 'going') count += 1
      return count
    }
    assert.equal(tries(new TftpTransfer(content(10), new Map([['tsize', '0']]))), 4)
    assert.equal(tries(new TftpTransfer(content(10), new Map())), 4)
    const answered = new TftpTransfer(content(2000), new Map([['tsize', '0']]))
    answered.acknowledge(0)
    assert.equal(tries(answered), 6)
  })
})
