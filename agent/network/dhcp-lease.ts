/**
 * Keeps the DHCP lease of the address that the root is read over: nobody else may, since whoever loses or
 * changes an address takes the root away. What the DHCP server says decides nothing: when it is silent,
 * refuses, or is gone for good, the address stays (RFC 2131 would give it up), and that is told.
 *
 * The address was given to the firmware or to the initramfs, so nothing is known of its lease. The first
 * request is that of a client that looks for any server (REBINDING); then the server that answered is
 * asked, at the times it has named.
 */
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeLeaseAnswer, encodeLeaseRequest, type LeaseAnswer } from './dhcp-packet.ts'

export interface DhcpLeaseOptions {
  /** IPv4, without a prefix length. */
  readonly address: string
  readonly mac: string
  readonly hostname: string
  /** Something with it got worse, or is well again: a sentence. */
  readonly onNotice: (level: 'info' | 'warning', text: string) => void
  readonly signal: AbortSignal
  readonly network?: DhcpNetwork
}

/** Only given by tests. */
export interface DhcpNetwork {
  readonly clientPort: number
  readonly serverPort: number
  readonly broadcast: string
  /** Of each second that a server names, and of each second here. */
  readonly msPerSecond: number
}

const NETWORK: DhcpNetwork = {
  clientPort: 68,
  serverPort: 67,
  broadcast: '255.255.255.255',
  msPerSecond: 1000,
}

/** An answer comes within milliseconds, from a relay within a second. */
const ANSWER_SECONDS = 4
/** RFC 2131 §4.4.5: not sooner than a minute; without an answer half of what is left of the lease. */
const RETRY_SECONDS_MIN = 60
const RETRY_SECONDS_MAX = 600
/** Leases of 60 s exist; those are asked for at half of that. */
const RENEWAL_SECONDS_MIN = 15
const FOREVER_SECONDS = 0xffff_ffff
/** setTimeout counts no further. */
const PAUSE_SECONDS_MAX = 24 * 3600

type Ack = Extract<LeaseAnswer, { kind: 'ack' }>

/** Ends when the signal is aborted. Rejects never. */
export async function keepDhcpLease(options: DhcpLeaseOptions): Promise<void> {
  const { onNotice, signal, address, network = NETWORK } = options
  let last: Ack | undefined
  let lastAtMs = performance.now()
  let problem = ''
  const tell = (next: string) => {
    if (next === problem || (last === undefined && next === '')) return
    // A server that never knew this address is none of ours: it may be a fixed one.
    if (last !== undefined) {
      if (next !== '') onNotice('warning', `${next}; ${address} is kept`)
      else onNotice('info', `The DHCP server renews the lease of ${address} again`)
    }
    problem = next
  }
  while (!signal.aborted) {
    const leftSeconds = last === undefined ? 0 : secondsLeft(last, lastAtMs, network)
    const mayAskServer = last !== undefined && leftSeconds > last.leaseSeconds / 8
    const answer = await exchange(options, mayAskServer ? last?.serverId : undefined, network)
    if (answer?.kind === 'ack') {
      last = answer
      lastAtMs = performance.now()
      tell('')
    } else if (answer?.kind === 'nak') tell('The DHCP server refuses to renew the lease')
    else if (leftSeconds <= 0) tell('The DHCP server has not renewed the lease in time')
    const pauseSeconds =
      answer?.kind === 'ack' ? renewalSeconds(answer) : retrySeconds(leftSeconds, last)
    const ms = Math.min(pauseSeconds, PAUSE_SECONDS_MAX) * network.msPerSecond
    await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined)
  }
}

function secondsLeft({ leaseSeconds }: Ack, sinceMs: number, { msPerSecond }: DhcpNetwork): number {
  if (leaseSeconds === FOREVER_SECONDS) return FOREVER_SECONDS
  return leaseSeconds - (performance.now() - sinceMs) / msPerSecond
}

function renewalSeconds({ leaseSeconds, renewalSeconds = leaseSeconds / 2 }: Ack): number {
  return Math.max(RENEWAL_SECONDS_MIN, Math.min(renewalSeconds, leaseSeconds / 2))
}

function retrySeconds(leftSeconds: number, last: Ack | undefined): number {
  if (last === undefined) return RETRY_SECONDS_MAX
  const shortest = Math.min(RETRY_SECONDS_MIN, Math.max(RENEWAL_SECONDS_MIN, last.leaseSeconds / 8))
  return Math.min(RETRY_SECONDS_MAX, Math.max(shortest, leftSeconds / 2))
}

/** Asks one server, or all; returns undefined when none answers. */
async function exchange(
  { address, mac, hostname, signal }: DhcpLeaseOptions,
  serverId: string | undefined,
  { clientPort, serverPort, broadcast, msPerSecond }: DhcpNetwork,
): Promise<LeaseAnswer | undefined> {
  // Only for the moment, and shared: DHCP clients of the system listen there for other cards.
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const answered = Promise.withResolvers<LeaseAnswer | undefined>()
  const transactionId = randomInt(2 ** 32)
  const end = () => answered.resolve(undefined)
  const timer = setTimeout(end, ANSWER_SECONDS * msPerSecond)
  signal.addEventListener('abort', end, { once: true })
  socket.on('error', end) // the card is down, or the port is somebody's alone
  socket.on('message', (packet) => {
    const answer = decodeLeaseAnswer(packet, mac)
    if (answer?.transactionId === transactionId) answered.resolve(answer)
  })
  socket.bind(clientPort, address, () => {
    socket.setBroadcast(true)
    const packet = encodeLeaseRequest({ transactionId, mac, address, hostname })
    socket.send(packet, serverPort, serverId ?? broadcast, (error) => error && end())
  })
  try {
    return await answered.promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
    socket.close()
  }
}
