/**
 * A server, a way to it that can break in every manner, and a User-mode Linux on the other side whose kernel
 * has its NBD device from the product's own agent (agent-guest.ts). Needs root.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { VDiskView } from '#server/admin/admin-api.ts'
import { renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { bundleInto } from './agent-bundle.ts'
import type { AgentGuest } from './agent-guest.ts'
import { CACHE_FOLDER } from './build-cache.ts'
import { runScript } from './child-run.ts'
import { ensureRootfs } from './rootfs.ts'
import { type ServerProcess, startServerProcess } from './server-process.ts'
import { ensureSupervisor } from './supervisor-binary.ts'
import { UmlMachine } from './uml-machine.ts'
import { ensureExt4Image } from './vdisk-image.ts'

const HOST_ADDRESS = '10.78.0.1'
const GUEST_ADDRESS = '10.78.0.2'
const TAP = 'bwfaults'
const GUEST_MAC = '52:54:00:fa:00:01'
/** As little as there may be: what is read comes from the server. */
const RAM_CACHE_BYTES = 4 * MiB
const MEMORY_MIB = 768

export class FaultSite implements AsyncDisposable {
  readonly #folder: string
  readonly #opened: AsyncDisposableStack
  readonly #serve = ['--unknown-clients', 'vdisk:debian']
  #server: ServerProcess
  readonly #proxy: Proxy

  private constructor(
    folder: string,
    server: ServerProcess,
    proxy: Proxy,
    opened: AsyncDisposableStack,
  ) {
    this.#folder = folder
    this.#server = server
    this.#proxy = proxy
    this.#opened = opened
  }

  static async start(): Promise<FaultSite> {
    await using opened = new AsyncDisposableStack()
    const folder = mkdtempSync(join(CACHE_FOLDER, 'faults-'))
    opened.defer(() => rmSync(folder, { recursive: true, force: true }))
    const tap = 'ip tuntap add "$1" mode tap; ip address add "$2/24" dev "$1"; ip link set "$1" up'
    await runScript(tap, [TAP, HOST_ADDRESS])
    opened.defer(async () => void (await runScript('ip link del "$1"', [TAP])))
    const image = await ensureExt4Image(await ensureRootfs())
    const state = join(folder, 'state')
    const server = opened.use(await startServerProcess(state, '--unknown-clients', 'vdisk:debian'))
    const { status, stderr } = await server.run('vdisk', 'import', image, '--name', 'debian')
    if (status !== 0) throw new Error(stderr)
    const proxy = await Proxy.listen(() => server.tlsPort)
    opened.defer(() => proxy.close())
    return new FaultSite(folder, server, proxy, opened.move())
  }

  /** Runs a command of the product that must succeed. */
  async run(...args: readonly string[]): Promise<void> {
    const { status, stderr } = await this.#server.run(...args)
    if (status !== 0) throw new Error(stderr)
  }

  /** Starts the guest with a program of this repository, which is given the path of these options. */
  async startGuest(name: string, script: string, options: object): Promise<UmlMachine> {
    const vdisk = await this.#server.json<VDiskView>('vdisk', 'show', 'debian')
    const kernelId = vdisk.versions[0]?.kernel?.id
    invariant(kernelId !== undefined, 'the image has a kernel')
    const parameters = renderBootParameters({
      servers: [{ host: HOST_ADDRESS, port: this.#proxy.port }],
      pin: this.#server.pin,
      kernelId,
      ramCacheBytes: RAM_CACHE_BYTES,
    })
    await bundleInto(this.#folder, 'agent/main.ts')
    const guest: AgentGuest = {
      supervisor: await ensureSupervisor(),
      agent: join(this.#folder, 'main.cjs'),
      address: GUEST_ADDRESS,
    }
    const optionsFile = join(this.#folder, 'guest.json')
    writeFileSync(optionsFile, JSON.stringify({ ...guest, ...options }))
    const node = [process.execPath, '--disable-warning=ExperimentalWarning']
    return this.#opened.use(
      UmlMachine.start({
        name,
        command: [...node, script, optionsFile],
        kernelParameters: [
          `vec0:transport=tap,ifname=${TAP},depth=128,gro=1,mac=${GUEST_MAC}`,
          ...parameters.split(' '),
        ],
        memoryMiB: MEMORY_MIB,
      }),
    )
  }

  // Each fault returns for how many seconds there was no server.

  /** The server is killed, and another one is there in its place after a while. */
  async killServer(seconds: number): Promise<number> {
    const { httpPort, tlsPort } = this.#server
    const ports = ['--http-port', String(httpPort), '--tls-port', String(tlsPort)]
    const beganMs = performance.now()
    await this.#server.stop('SIGKILL')
    await sleep(seconds * 1000)
    const state = join(this.#folder, 'state')
    this.#server = this.#opened.use(await startServerProcess(state, ...this.#serve, ...ports))
    return (performance.now() - beganMs) / 1000
  }

  async freezeServer(seconds: number): Promise<number> {
    this.#server.signal('SIGSTOP')
    await sleep(seconds * 1000)
    this.#server.signal('SIGCONT')
    return seconds
  }

  async resetConnections(): Promise<number> {
    this.#proxy.reset()
    return 0
  }

  /** What is sent to the guest goes to a card that is not there: nothing arrives, nothing is confirmed. */
  async blackHole(seconds: number): Promise<number> {
    const nobody = 'ip neigh replace "$2" lladdr 02:00:00:00:00:99 dev "$1" nud permanent'
    await runScript(nobody, [TAP, GUEST_ADDRESS])
    await sleep(seconds * 1000)
    await runScript('ip neigh del "$2" dev "$1"', [TAP, GUEST_ADDRESS])
    return seconds
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync()
  }
}

/** Passes bytes on, and can reset all connections. */
class Proxy {
  readonly port: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server, port: number) {
    this.#server = server
    this.port = port
  }

  static async listen(target: () => number): Promise<Proxy> {
    const server = createServer((client) => {
      const upstream = connect(target(), '127.0.0.1')
      proxy.#join(client, upstream)
    })
    await new Promise<void>((resolve) => server.listen(0, HOST_ADDRESS, resolve))
    const address = server.address()
    invariant(typeof address === 'object' && address !== null, 'it listens on a port')
    const proxy = new Proxy(server, address.port)
    return proxy
  }

  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  close(): void {
    this.reset()
    this.#server.close()
  }

  #join(client: Socket, upstream: Socket): void {
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
  }
}
