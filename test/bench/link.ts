/**
 * A network link for the benches: two namespaces, and between them a bandwidth and a round trip. All
 * that is measured goes over it by the kernel's own TCP.
 *
 * - A LAN (a round trip below a millisecond) is a veth pair with a token bucket at both ends; the round
 *   trip is whatever the kernel takes.
 * - Anything longer goes through a router, which is a User-mode Linux, since the kernels of many hosts
 *   cannot delay packets (netem) and its can. In each direction a packet is first delayed by half the
 *   round trip, then waits for the token bucket in a queue that drops what does not fit.
 *
 * What is sent in large pieces (GSO) is one packet to interface counters; `exactCounters` makes all
 * packets those that a wire would carry, where they are sent.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KiB } from '#shared/units.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'

export interface LinkShape {
  readonly roundTripMs: number
  readonly bitsPerSecond: number
  /** Counts bytes as on a wire; costs CPU time. Default false. */
  readonly exactCounters?: boolean
}

export const MBIT = 1_000_000
export const GBIT = 1_000_000_000

/** Where the server listens, as the client sees it. */
export const SERVER_ADDRESS = '10.77.2.2'
const CLIENT_ADDRESS = '10.77.1.2'
const CLIENT_INTERFACE = 'bwclient'
const SERVER_INTERFACE = 'bwserver'

/** A round trip that needs no router. */
const LAN_MS_MAX = 1

/** What waits before the bottleneck at most: a router of the usual kind. */
const QUEUE_MS = 50

/** What may pass the token bucket at once: the interval of its timer, and a few packets. */
const BURST_MS = 1
const BURST_BYTES_MIN: number = 16 * KiB

const ONE_BY_ONE = 'ip link set "$1" gso_max_segs 1'

const ROUTER_MEMORY = '256M'
const ROUTER_SCRIPT = join(import.meta.dirname, 'link-router.sh')

export class Link implements AsyncDisposable {
  readonly shape: LinkShape
  readonly client: NetworkNamespace
  readonly server: NetworkNamespace
  readonly #parts: AsyncDisposableStack

  private constructor(
    shape: LinkShape,
    client: NetworkNamespace,
    server: NetworkNamespace,
    parts: AsyncDisposableStack,
  ) {
    this.shape = shape
    this.client = client
    this.server = server
    this.#parts = parts
  }

  static async create(shape: LinkShape): Promise<Link> {
    await using parts = new AsyncDisposableStack()
    const client = parts.use(await NetworkNamespace.create())
    const server = parts.use(await NetworkNamespace.create())
    if (shape.roundTripMs < LAN_MS_MAX) await connectDirectly(shape, client, server)
    else parts.use(await Router.connect(shape, client, server))
    if (shape.exactCounters === true) {
      await client.runScript(ONE_BY_ONE, [CLIENT_INTERFACE])
      await server.runScript(ONE_BY_ONE, [SERVER_INTERFACE])
    }
    return new Link(shape, client, server, parts.move())
  }

  /** Sent so far, in both directions, with all headers from Ethernet upwards. */
  wireBytes(): number {
    const byClient = this.client.interfaceBytes(CLIENT_INTERFACE).sent
    return byClient + this.server.interfaceBytes(SERVER_INTERFACE).sent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }
}

/** How a link is called in tables. */
export function linkName({ roundTripMs, bitsPerSecond }: LinkShape): string {
  const rate =
    bitsPerSecond < GBIT ? `${bitsPerSecond / MBIT} Mb/s` : `${bitsPerSecond / GBIT} Gb/s`
  return `${roundTripMs} ms, ${rate}`
}

async function connectDirectly(
  shape: LinkShape,
  client: NetworkNamespace,
  server: NetworkNamespace,
): Promise<void> {
  const script = 'ip link add "$1" type veth peer name "$2" netns "$3"'
  await client.runScript(script, [CLIENT_INTERFACE, SERVER_INTERFACE, String(server.pid)])
  const { rate, burst, queue } = bucketOf(shape)
  for (const [namespace, name, address] of [
    [client, CLIENT_INTERFACE, CLIENT_ADDRESS],
    [server, SERVER_INTERFACE, SERVER_ADDRESS],
  ] as const) {
    const shaped = `
      ip address add "$2/16" dev "$1"
      tc qdisc add dev "$1" root tbf rate "$3" burst "$4" limit "$5"
      ip link set "$1" up`
    await namespace.runScript(shaped, [name, address, rate, burst, queue])
  }
}

function bucketOf({ bitsPerSecond }: LinkShape) {
  const bytesPerMs = bitsPerSecond / 8 / 1000
  return {
    rate: `${bitsPerSecond}bit`,
    burst: String(Math.round(Math.max(BURST_BYTES_MIN, BURST_MS * bytesPerMs))),
    queue: String(Math.round(QUEUE_MS * bytesPerMs)),
  }
}

/** A User-mode Linux with a tap in each of two namespaces. It ends with this process. */
class Router implements AsyncDisposable {
  readonly #child: ChildProcess
  /** Where its kernel keeps a management socket. */
  readonly #folder: string

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child
    this.#folder = folder
  }

  static async connect(
    shape: LinkShape,
    client: NetworkNamespace,
    server: NetworkNamespace,
  ): Promise<Router> {
    const folder = mkdtempSync(join(tmpdir(), 'bootwire-router-'))
    // It makes both taps where it runs; one is moved then, and stays connected.
    const namespace = ['unshare', '--pid', '--fork', '--kill-child']
    const command = server.command([...namespace, 'linux.uml', ...kernelArguments(shape, folder)])
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const router = new Router(child, folder)
    await untilRoutes(child)
    await server.runScript('ip link set "$1" netns "$2"', [CLIENT_INTERFACE, String(client.pid)])
    const joined = `
      ip address add "$2/24" dev "$1"
      ip link set "$1" up
      ip route add default via "$3"`
    await client.runScript(joined, [
      CLIENT_INTERFACE,
      CLIENT_ADDRESS,
      routerAddress(CLIENT_ADDRESS),
    ])
    await server.runScript(joined, [
      SERVER_INTERFACE,
      SERVER_ADDRESS,
      routerAddress(SERVER_ADDRESS),
    ])
    return router
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await gone
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Its side of a link: the first address. */
function routerAddress(address: string): string {
  return address.replace(/\d+$/, '1')
}

function kernelArguments(shape: LinkShape, folder: string): string[] {
  const { rate, burst, queue } = bucketOf(shape)
  const delayUs = `${(shape.roundTripMs / 2) * 1000}us`
  const tap = (name: string) => `transport=tap,ifname=${name},depth=128,gro=1`
  return [
    [`mem=${ROUTER_MEMORY}`, `uml_dir=${folder}`, 'root=98:0', 'rootfstype=hostfs', 'rootflags=/'],
    ['ro', 'con=null', 'con0=null,fd:1', 'panic=-1', 'quiet', `init=${ROUTER_SCRIPT}`],
    [`vec0:${tap(CLIENT_INTERFACE)}`, `vec1:${tap(SERVER_INTERFACE)}`, '--'],
    [delayUs, rate, burst, queue, routerAddress(CLIENT_ADDRESS), routerAddress(SERVER_ADDRESS)],
  ].flat()
}

async function untilRoutes(child: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let said = ''
  child.stdout?.on('data', (bytes: Buffer) => {
    said += bytes.toString('latin1')
    if (/router: ready/.test(said)) resolve()
    if (/router: failed/.test(said)) reject(new Error(`the router of the link failed:\n${said}`))
  })
  child.once('error', reject)
  child.once('exit', () => reject(new Error(`the router of the link ended:\n${said}`)))
  await promise
}
