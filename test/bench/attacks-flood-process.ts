/**
 * Somebody with many addresses, or one, who holds connections of machines that nobody has approved, and makes
 * TLS handshakes as fast as he is told to.
 *
 * usage: attacks-flood-process.ts PORT CONNECTIONS ADDRESSES HANDSHAKES_PER_SECOND; writes a FloodReport on a line
 * when all connections were tried, and another one with what became of it when its standard input ends
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ConnectionOptions, connect } from 'node:tls'
import { WebSocket } from 'ws'
import { encodeMessage } from '#shared/wire/codec.ts'
import { AGENT_PATH } from '#shared/wire/limits.ts'
import { hello } from '#test/support/agent-messages.ts'
import { say } from './report.ts'

export interface FloodReport {
  readonly held: number
  readonly handshakes: number
  readonly seconds: number
}

const HOST = '127.0.0.1'
/** Connections that are being made at a time. */
const CONNECTING_MAX = 32

const [port = 0, connections = 0, addresses = 1, perSecond = 0] = process.argv.slice(2).map(Number)

const held = new Set<WebSocket>()
let handshakes = 0

await Promise.all(Array.from({ length: CONNECTING_MAX }, (_, lane) => holdLane(lane)))
const sinceMs = performance.now()
report()
const ticking = setInterval(shakeHands, 10)
process.stdin.resume()
await once(process.stdin, 'end')
clearInterval(ticking)
report()
process.exit()

async function holdLane(lane: number): Promise<void> {
  for (let at = lane; at < connections; at += CONNECTING_MAX) await hold(at)
}

/** Returns when the connection stands, or does not. */
async function hold(at: number): Promise<void> {
  const socket = new WebSocket(`wss://${HOST}:${port}${AGENT_PATH}`, {
    rejectUnauthorized: false,
    perMessageDeflate: false,
    localAddress: addressOf(at),
  })
  const done = Promise.withResolvers<void>()
  socket.on('error', () => undefined) // it closes
  socket.on('close', () => {
    held.delete(socket)
    done.resolve()
  })
  socket.on('message', () => done.resolve()) // who it is
  socket.on('open', () => {
    held.add(socket)
    const mac = `52:54:01:00:${hex(at >> 8)}:${hex(at & 0xff)}`
    socket.send(encodeMessage(hello({ mac, bootId: at.toString(16).padStart(32, '0') })))
  })
  await Promise.race([done.promise, sleep(10_000)])
}

function shakeHands(): void {
  const due = ((performance.now() - sinceMs) / 1000) * perSecond
  for (; handshakes < due; handshakes += 1) {
    // Its declaration does without what net.connect takes, and it passes on.
    const options: ConnectionOptions & { readonly localAddress: string } = {
      host: HOST,
      port,
      rejectUnauthorized: false,
      localAddress: addressOf(handshakes),
    }
    const socket = connect(options)
    socket.on('error', () => socket.destroy())
    socket.on('secureConnect', () => socket.destroy())
  }
}

function report(): void {
  const seconds = (performance.now() - sinceMs) / 1000
  say(JSON.stringify({ held: held.size, handshakes, seconds } satisfies FloodReport))
}

/** All of 127.0.0.0/8 is this machine. */
function addressOf(at: number): string {
  return `127.0.1.${(at % addresses) + 1}`
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}
