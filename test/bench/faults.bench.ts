/**
 * npm run bench -- faults: what goes wrong with agent, server and network under a device that is read and
 * written all the time, and what the system sees of it. See README.md.
 *
 *   --rounds N     how often each (10)
 *   --full         also losses of a minute
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { VDiskView } from '#server/admin/admin-api.ts'
import { renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { CACHE_FOLDER } from '#test/support/build-cache.ts'
import { runScript } from '#test/support/child-run.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { type ServerProcess, startServerProcess } from '#test/support/server-process.ts'
import { ensureSupervisor } from '#test/support/supervisor-binary.ts'
import { UmlMachine } from '#test/support/uml-machine.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { bundleInto } from './agent-bundle.ts'
import type { FaultResult, FaultRun, GuestOptions } from './faults-guest.ts'
import { median, reportGoals, say } from './report.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10' },
    full: { type: 'boolean', default: false },
    json: { type: 'boolean' },
  },
})

const HOST_ADDRESS = '10.78.0.1'
const GUEST_ADDRESS = '10.78.0.2'
const TAP = 'bwfaults'
const GUEST_MAC = '52:54:00:fa:00:01'
const READ_BYTES = 192 * MiB
const WRITE_BYTES = 32 * MiB
/** As little as there may be: what is read comes from the server. */
const RAM_CACHE_BYTES = 4 * MiB
const WRITES_MIN = 500
const ROUND_TIMEOUT_MS = 900_000

interface Fault {
  readonly name: string
  readonly what: string
  /** How long fio works. */
  readonly seconds: number
  readonly killsAgent?: boolean
  readonly control?: 'errors' | 'lost-writes'
  /** Returns how long there was no server, in seconds. */
  readonly make?: (site: Site) => Promise<number | undefined>
}

/** The server, and the way to it. */
interface Site {
  server: ServerProcess
  readonly restart: () => Promise<void>
  readonly proxy: Proxy
}

const lasting = (seconds: number) => sleep(seconds * 1000)

async function kill(site: Site, seconds: number): Promise<number> {
  const beganMs = performance.now()
  await site.server.stop('SIGKILL')
  await lasting(seconds)
  await site.restart()
  return (performance.now() - beganMs) / 1000
}

async function freeze({ server }: Site, seconds: number): Promise<number> {
  server.signal('SIGSTOP')
  await lasting(seconds)
  server.signal('SIGCONT')
  return seconds
}

/** What is sent to the guest goes to a card that is not there: nothing arrives, nothing is confirmed. */
async function blackHole(seconds: number): Promise<number> {
  const nobody = 'ip neigh replace "$2" lladdr 02:00:00:00:00:99 dev "$1" nud permanent'
  await runScript(nobody, [TAP, GUEST_ADDRESS])
  await lasting(seconds)
  await runScript('ip neigh del "$2" dev "$1"', [TAP, GUEST_ADDRESS])
  return seconds
}

const FAULTS: readonly Fault[] = [
  { name: 'agent-kill', what: 'agent killed (SIGKILL)', seconds: 8, killsAgent: true },
  {
    name: 'server-kill',
    what: 'server killed (SIGKILL), another one in its place after 3 s',
    seconds: 12,
    make: (site) => kill(site, 3),
  },
  {
    name: 'server-freeze',
    what: 'server frozen for 5 s (SIGSTOP)',
    seconds: 12,
    make: (site) => freeze(site, 5),
  },
  {
    name: 'reset',
    what: 'connection reset',
    seconds: 6,
    make: async ({ proxy }) => {
      proxy.reset()
      return 0
    },
  },
  {
    name: 'black-hole',
    what: 'no packet arrives for 5 s',
    seconds: 14,
    make: () => blackHole(5),
  },
]

const LONG_FAULTS: readonly Fault[] = [
  {
    name: 'server-kill-60',
    what: 'no server for 60 s',
    seconds: 75,
    make: (site) => kill(site, 60),
  },
  {
    name: 'server-freeze-60',
    what: 'server frozen for 60 s',
    seconds: 75,
    make: (site) => freeze(site, 60),
  },
]

const CONTROLS: readonly Fault[] = [
  { name: 'control-errors', what: 'nbdkit killed, nobody guards', seconds: 6, control: 'errors' },
  {
    name: 'control-lost',
    what: 'nbdkit replaced by an empty one',
    seconds: 6,
    control: 'lost-writes',
  },
]

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

const rounds = Number(options.rounds)
const faults = [...FAULTS, ...(options.full ? LONG_FAULTS : []), ...CONTROLS]
const downSeconds = new Map<string, number[]>()
const results = await measureAll()
reportAll(results)

async function measureAll(): Promise<FaultResult[]> {
  await using opened = new AsyncDisposableStack()
  const folder = mkdtempSync(join(CACHE_FOLDER, 'faults-'))
  opened.defer(() => rmSync(folder, { recursive: true, force: true }))
  const tap = 'ip tuntap add "$1" mode tap; ip address add "$2/24" dev "$1"; ip link set "$1" up'
  await runScript(tap, [TAP, HOST_ADDRESS])
  opened.defer(async () => void (await runScript('ip link del "$1"', [TAP])))
  const site = await startSite(folder, opened)
  const machine = opened.use(await startGuest(folder, site))
  const found: FaultResult[] = []
  for (const run of runsOf()) {
    const fault = faults.find(({ name }) => name === run.name)
    if (run.control === undefined) {
      await machine.console.expect(new RegExp(`FAULT ${run.name} ${run.round}\\b`), {
        timeoutMs: ROUND_TIMEOUT_MS,
      })
      const seconds = await fault?.make?.(site)
      if (seconds !== undefined) note(run.name, seconds)
    }
    const { groups } = await machine.console.expect(/RESULT (?<json>\{.*\})\n/, {
      timeoutMs: ROUND_TIMEOUT_MS,
    })
    const result = JSON.parse(groups['json'] ?? '') as FaultResult
    say(`${run.name} ${run.round}: ${JSON.stringify(result)}`)
    found.push(result)
  }
  return found
}

/** Round by round, so that a machine that is slow for a while is so for all. */
function runsOf(): FaultRun[] {
  return Array.from({ length: rounds }, (_, round) => round).flatMap((round) =>
    faults
      .filter(({ control }) => control === undefined || round === 0)
      .map(({ name, seconds, killsAgent, control }) => ({
        name,
        round,
        seconds,
        ...(killsAgent && { killsAgent }),
        ...(control && { control }),
      })),
  )
}

async function startSite(folder: string, opened: AsyncDisposableStack): Promise<Site> {
  const rootfs = await ensureRootfs()
  const image = await ensureExt4Image(rootfs)
  const state = join(folder, 'state')
  const serve = ['--unknown-clients', 'vdisk:debian']
  const server = opened.use(await startServerProcess(state, ...serve))
  const { status, stderr } = await server.run('vdisk', 'import', image, '--name', 'debian')
  if (status !== 0) throw new Error(stderr)
  const ports = ['--http-port', String(server.httpPort), '--tls-port', String(server.tlsPort)]
  const proxy = await Proxy.listen(() => server.tlsPort)
  opened.defer(() => proxy.close())
  const site: Site = {
    server,
    proxy,
    restart: async () => {
      site.server = opened.use(await startServerProcess(state, ...serve, ...ports))
    },
  }
  return site
}

async function startGuest(folder: string, { server, proxy }: Site): Promise<UmlMachine> {
  const vdisk = await server.json<VDiskView>('vdisk', 'show', 'debian')
  const kernelId = vdisk.versions[0]?.kernel?.id
  invariant(kernelId !== undefined, 'the image has a kernel')
  const parameters = renderBootParameters({
    servers: [{ host: HOST_ADDRESS, port: proxy.port }],
    pin: server.pin,
    kernelId,
    ramCacheBytes: RAM_CACHE_BYTES,
  })
  // Where the guest sees it: not in /tmp, which is its own.
  await bundleInto(folder, 'agent/main.ts')
  const guest: GuestOptions = {
    supervisor: await ensureSupervisor(),
    agent: join(folder, 'main.cjs'),
    address: GUEST_ADDRESS,
    runs: runsOf(),
    readBytes: READ_BYTES,
    writeBytes: WRITE_BYTES,
  }
  const optionsFile = join(folder, 'guest.json')
  writeFileSync(optionsFile, JSON.stringify(guest))
  const script = join(import.meta.dirname, 'faults-guest.ts')
  return UmlMachine.start({
    name: 'faults',
    command: [process.execPath, '--disable-warning=ExperimentalWarning', script, optionsFile],
    kernelParameters: [
      `vec0:transport=tap,ifname=${TAP},depth=128,gro=1,mac=${GUEST_MAC}`,
      ...parameters.split(' '),
    ],
    memoryMiB: 768,
  })
}

function note(name: string, seconds: number): void {
  const known = downSeconds.get(name)
  if (known === undefined) downSeconds.set(name, [seconds])
  else known.push(seconds)
}

function reportAll(all: readonly FaultResult[]): void {
  const rows = faults.map((fault) => {
    const own = all.filter(({ name }) => name === fault.name)
    const stalls = own.map(({ stallSeconds }) => stallSeconds)
    const down = downSeconds.get(fault.name) ?? []
    return {
      fault: fault.name,
      what: fault.what,
      stallMedian: median(stalls),
      stallWorst: Math.max(...stalls),
      resumeWorst: Math.max(0, ...stalls.map((stall, at) => stall - (down[at] ?? stall))),
      errors: sum(own.map(({ errors }) => errors)),
      lostWrites: sum(own.map(({ lostWrites }) => lostWrites)),
      writesLeast: Math.min(...own.map(({ verifiedWrites }) => verifiedWrites)),
      isControl: fault.control !== undefined,
    }
  })
  say('\n| fault | stall s, median | worst | errors | lost writes | verified writes, least |')
  say('|---|---|---|---|---|---|')
  for (const row of rows) {
    const stalls = row.isControl
      ? ' |  '
      : `${row.stallMedian.toFixed(2)} | ${row.stallWorst.toFixed(2)}`
    say(`| ${row.what} | ${stalls} | ${row.errors} | ${row.lostWrites} | ${row.writesLeast} |`)
  }
  const real = rows.filter(({ isControl }) => !isControl)
  for (const { fault, writesLeast } of real) {
    invariant(writesLeast >= WRITES_MIN, `${fault}: only ${writesLeast} writes were verified`)
  }
  const [errors, lost] = rows.filter(({ isControl }) => isControl)
  invariant((errors?.errors ?? 0) > 0, 'a device that nobody guards shows errors')
  invariant((lost?.lostWrites ?? 0) > 0, 'a device that forgets shows lost writes')
  const worst = (name: string) => real.find(({ fault }) => fault === name)
  reportGoals(
    'faults',
    [
      { name: 'faults.errors', value: sum(real.map((it) => it.errors)), goal: '0' },
      { name: 'faults.lost_writes', value: sum(real.map((it) => it.lostWrites)), goal: '0' },
      {
        name: 'faults.agent_kill_stall_s',
        value: rounded(worst('agent-kill')?.stallWorst),
        goal: '<8',
      },
      {
        name: 'faults.server_resume_s',
        value: rounded(worst('server-kill')?.resumeWorst),
        goal: '<1',
      },
    ],
    rows,
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function rounded(value: number | undefined): number {
  return Math.round((value ?? Number.NaN) * 100) / 100
}
