/** Probes of what lies between this machine's card and the server's port. */
import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { readFileSync, readlinkSync } from 'node:fs'
import { connect, isIP } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { nameOf } from '#shared/tls/pinned-tls.ts'
import { findDhcpServers } from '../network/dhcp-discovery.ts'
import type { ProbeResult } from './chain-check.ts'

/** Of the network script, as far as the probes need it. */
export interface NetworkFacts {
  readonly state: string
  readonly interfaceName: string
  /** With its prefix length; empty before there is one. */
  readonly address: string
  readonly gateway: string
  readonly dnsServers: readonly string[]
}

/** In the same building all of these answer within milliseconds. */
const ANSWER_MS = 3_000
/** A DHCP server asks around for two or three seconds whether the address is free, before it offers it. */
const OFFERS_MS = 4_000
const LOOK_MS = 50

/** The discard service (RFC 863): whoever gets it, it makes the system ask for the neighbour's address. */
const DISCARD_PORT = 9
/** /proc/net/arp: the neighbour has answered. */
const ARP_COMPLETE = 0x2

const NO_CARRIER = '0'

export async function probeLink(
  { state, interfaceName }: NetworkFacts,
  sysFolder = '/sys',
): Promise<ProbeResult> {
  if (state !== 'no-card' && interfaceName === '') {
    return { state: 'untested', text: 'still looking for a network card' }
  }
  if (state === 'no-card') {
    throw new BootwireError(
      'NO_NETWORK',
      'Cannot find a network card: the kernel has no driver for any there is',
    )
  }
  const folder = join(sysFolder, 'class/net', interfaceName)
  const read = (name: string) => readText(join(folder, name))
  if (read('carrier') === NO_CARRIER || state === 'no-link') {
    throw new BootwireError('NO_NETWORK', `Cannot use ${interfaceName}: it has no link`)
  }
  const speed = Number(read('speed') ?? -1)
  const driver = driverOf(folder)
  const parts = [
    interfaceName,
    ...(speed > 0 ? [`${speed} Mb/s`] : []),
    ...(driver === undefined ? [] : [driver]),
    read('address') ?? '',
  ]
  const isSlow = (speed > 0 && speed < 1000) || read('duplex') === 'half'
  return { state: isSlow ? 'note' : 'good', text: parts.join(', ') }
}

/** Asks for all DHCP servers there are: two that give out addresses are one too many. */
export async function probeDhcp(facts: NetworkFacts, mac: string): Promise<ProbeResult> {
  const { address, interfaceName, state } = facts
  if (address === '' && state !== 'no-address') {
    return { state: 'untested', text: `still asking on ${interfaceName}` }
  }
  if (address === '') {
    throw new BootwireError('NO_ADDRESS', `Cannot get an address on ${interfaceName} by DHCP`)
  }
  const servers = await findDhcpServers(mac, OFFERS_MS)
  const names = servers.map((server) => server.serverId)
  if (names.length > 1) {
    return {
      state: 'note',
      text: `${address}; ${names.length} DHCP servers answer: ${names.join(', ')}`,
    }
  }
  const [name] = names
  return name === undefined
    ? { state: 'note', text: `${address}; no DHCP server answers now` }
    : { state: 'good', text: `${address} by ${name}` }
}

/** By ARP: many gateways answer no ping. */
export async function probeGateway({ gateway }: NetworkFacts): Promise<ProbeResult> {
  if (gateway === '') return { state: 'untested', text: 'there is none in this network' }
  const socket = createSocket('udp4')
  socket.on('error', () => undefined)
  try {
    const untilMs = performance.now() + ANSWER_MS
    socket.send('', DISCARD_PORT, gateway, () => undefined)
    while (performance.now() < untilMs) {
      await sleep(LOOK_MS)
      if (hasNeighbour(readText('/proc/net/arp') ?? '', gateway)) {
        return { state: 'good', text: `${gateway} answers` }
      }
    }
  } finally {
    socket.close()
  }
  throw new BootwireError('GATEWAY_SILENT', `The gateway ${gateway} does not answer`)
}

/** A name server that knows no such name answers, too. */
export async function probeDns(
  { dnsServers }: NetworkFacts,
  servers: readonly ServerAddress[],
): Promise<ProbeResult> {
  if (dnsServers.length === 0) return { state: 'untested', text: 'DHCP names no server' }
  const named = servers.find(({ host }) => isIP(host) === 0)
  const resolver = new Resolver({ timeout: ANSWER_MS, tries: 1 })
  resolver.setServers(dnsServers)
  const where = dnsServers.join(', ')
  try {
    const host = named?.host ?? 'localhost.invalid'
    const [found] = await resolver.resolve4(host)
    return { state: 'good', text: `${where} answers: ${host} is ${found ?? 'unknown'}` }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const isAnswer = code === 'ENOTFOUND' || code === 'ENODATA'
    if (isAnswer && named === undefined) return { state: 'good', text: `${where} answers` }
    throw new BootwireError(
      'DNS_SILENT',
      isAnswer
        ? `The DNS server ${where} does not know the name ${named?.host ?? ''}`
        : `The DNS server ${where} does not answer (${String(code)})`,
      { cause: error },
    )
  }
}

/** Whether anybody listens there; the others are asked when the first one is silent. */
export async function probeServer(servers: readonly ServerAddress[]): Promise<ProbeResult> {
  const silent: string[] = []
  for (const server of servers) {
    const why = await tryConnect(server)
    if (why !== undefined) {
      silent.push(`${nameOf(server)} (${why})`)
      continue
    }
    const first = silent.length === 0
    return first
      ? { state: 'good', text: nameOf(server) }
      : { state: 'note', text: `${nameOf(server)}; not reached: ${silent.join(', ')}` }
  }
  throw new BootwireError('SERVER_UNREACHABLE', `Cannot reach ${silent.join(', ')}`)
}

/** Returns why not. */
async function tryConnect({ host, port }: ServerAddress): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const socket = connect({ host, port, timeout: ANSWER_MS })
  socket.once('connect', () => resolve(undefined))
  socket.once('timeout', () => resolve(`no answer within ${ANSWER_MS / 1000} s`))
  socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message))
  try {
    return await promise
  } finally {
    socket.on('error', () => undefined)
    socket.destroy()
  }
}

/** Lines of /proc/net/arp: address, hardware type, flags, … */
export function hasNeighbour(table: string, address: string): boolean {
  return table.split('\n').some((line) => {
    const [ip, , flags = '0'] = line.trim().split(/\s+/)
    return ip === address && (Number(flags) & ARP_COMPLETE) !== 0
  })
}

function driverOf(folder: string): string | undefined {
  try {
    return basename(readlinkSync(join(folder, 'device/driver')))
  } catch {
    return undefined
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined // a card that is down says nothing of itself
  }
}
