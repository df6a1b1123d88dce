/**
 * What a link is, measured by TCP from process to process: the time of an answer of one byte, and how
 * long many bytes take. The same file is the process on the server's side.
 *
 * usage: link-probe.ts serve | ask BYTES; the last line of `ask` is a LinkMeasured
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'
import { type Link, SERVER_ADDRESS } from './link.ts'
import { median, say } from './report.ts'

export interface LinkMeasured {
  readonly roundTripMs: number
  /** Of all answers, the slowest but one in a hundred. */
  readonly roundTripP99Ms: number
  /** Payload of one connection, once it has found its pace. */
  readonly bitsPerSecond: number
}

const PORT = 9000
const ANSWERS = 200
/** Long enough for a connection to find its pace, and then again. */
const TRANSFER_SECONDS = 3
const PIECE = Buffer.alloc(64 * KiB)

/** What the server is asked for: 0 for an answer of one byte, else so many bytes. */
const REQUEST_BYTES = 4

if (import.meta.main) await serveOrAsk()

export async function probeLink(link: Link): Promise<LinkMeasured> {
  await using stack = new AsyncDisposableStack()
  const server = start(link.server.command([process.execPath, import.meta.filename, 'serve']))
  stack.defer(() => void server.kill('SIGKILL'))
  invariant(server.stdout !== null, 'stdout is a pipe')
  await once(server.stdout, 'data')
  const bytes = Math.round((link.shape.bitsPerSecond / 8) * TRANSFER_SECONDS)
  const client = link.client.command([process.execPath, import.meta.filename, 'ask', String(bytes)])
  const child = start(client)
  invariant(child.stdout !== null, 'stdout is a pipe')
  return JSON.parse(await text(child.stdout)) as LinkMeasured
}

function start([program = '', ...args]: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

async function serveOrAsk(): Promise<void> {
  const [what, bytes] = process.argv.slice(2)
  if (what === 'ask') return say(JSON.stringify(await ask(Number(bytes))))
  const server = createServer({ noDelay: true }, answer).listen(PORT, '0.0.0.0')
  await once(server, 'listening')
  say('listening')
}

function answer(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.on('data', (request: Buffer) => {
    const bytes = request.readUInt32BE(0)
    if (bytes === 0) socket.write('.')
    else sendBytes(socket, bytes)
  })
}

function sendBytes(socket: Socket, bytes: number): void {
  let left = bytes
  while (left > 0) {
    const piece = PIECE.subarray(0, Math.min(left, PIECE.length))
    left -= piece.length
    if (!socket.write(piece)) {
      socket.once('drain', () => sendBytes(socket, left))
      return
    }
  }
}

async function ask(bytes: number): Promise<LinkMeasured> {
  const socket = connect({ port: PORT, host: SERVER_ADDRESS, noDelay: true })
  await once(socket, 'connect')
  const answers: number[] = []
  for (let at = 0; at < ANSWERS; at += 1) {
    const beginMs = performance.now()
    socket.write(requestOf(0))
    await once(socket, 'data')
    answers.push(performance.now() - beginMs)
  }
  const bitsPerSecond = await receive(socket, bytes)
  socket.destroy()
  answers.sort((a, b) => a - b)
  return {
    roundTripMs: median(answers),
    roundTripP99Ms: answers[Math.floor(ANSWERS * 0.99)] ?? Number.NaN,
    bitsPerSecond,
  }
}

/** Returns the pace of the second half. */
async function receive(socket: Socket, bytes: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>()
  let received = 0
  let half = { atMs: 0, received: 0 }
  socket.on('data', (piece: Buffer) => {
    received += piece.length
    if (half.atMs === 0 && received >= bytes / 2) half = { atMs: performance.now(), received }
    if (received < bytes) return
    const seconds = (performance.now() - half.atMs) / 1000
    resolve(((received - half.received) * 8) / seconds)
  })
  socket.write(requestOf(bytes))
  return await promise
}

function requestOf(bytes: number): Buffer {
  const request = Buffer.alloc(REQUEST_BYTES)
  request.writeUInt32BE(bytes)
  return request
}
