/**
 * npm run bench -- ways-in: from power-on to the agent's first line by each way in, with the bytes each step moves;
 * and the same machines led by dnsmasq alone (proxyDHCP and TFTP, with the lines of "bootwire pxe config dnsmasq"),
 * in turn on the same bridge beside the same foreign DHCP server. The boot files come from the same server.
 *
 * usage: ways-in.bench.ts [--rounds N] [--full] [--json]
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { chooseAccelerator } from '#test/support/accelerator.ts'
import { ensureAgentImage } from '#test/support/agent-image.ts'
import { ensureIpxePrograms } from '#test/support/ipxe-programs.ts'
import { LAN_HOST_ADDRESS, Lan } from '#test/support/lan.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { startServerProcessIn } from '#test/support/server-process.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureExt4Image, ensureKernelFiles } from '#test/support/vdisk-image.ts'
import {
  BOOT_TIMEOUT_MS,
  type LanPort,
  VirtualMachine,
  type VmNetwork,
} from '#test/support/virtual-machine.ts'
import { median, reportGoals, say } from './report.ts'

type Chain = 'bootwire' | 'dnsmasq'

interface Way {
  readonly name: string
  readonly firmware: 'bios' | 'uefi'
  readonly bootsBy: NonNullable<VmNetwork['bootsBy']>
}

interface Steps {
  readonly script: number
  readonly kernel: number
  readonly agent: number
}

interface Row {
  readonly way: string
  readonly chain: Chain
  readonly seconds: Steps
  readonly megabytes: Steps
}

const WAYS: readonly Way[] = [
  { name: 'BIOS, iPXE in the ROM', firmware: 'bios', bootsBy: 'rom' },
  { name: 'UEFI by PXE', firmware: 'uefi', bootsBy: 'firmware-pxe' },
]
const MORE_WAYS: readonly Way[] = [
  { name: 'UEFI over HTTP', firmware: 'uefi', bootsBy: 'firmware-http' },
]

const MARKS: readonly (readonly [keyof Steps, RegExp])[] = [
  ['script', /bootwire: this machine is/],
  ['kernel', /bootwire: starting the kernel/],
  ['agent', /bootwire: agent /],
]

const HTTP_PORT = 8080
const LEASE_SECONDS = 3600

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

await using opened = new AsyncDisposableStack()
const folder = opened.use(await createTemporaryFolder())
const ipxeFolder = await ensureIpxePrograms()
const rootfs = await ensureRootfs()
await ensureAgentImage()
const accelerator = await chooseAccelerator((await ensureKernelFiles(rootfs)).kernel)
const host = opened.use(await NetworkNamespace.create())
const lan = opened.use(await Lan.create(host))
await lan.startDhcp(undefined, LEASE_SECONDS)
const port = await lan.port()
await importVdisk()

const rows: Row[] = []
for (const way of [...WAYS, ...(values.full ? MORE_WAYS : [])]) {
  const taken: Row[] = []
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const chain of ['bootwire', 'dnsmasq'] as const) taken.push(await measure(way, chain))
  }
  for (const chain of ['bootwire', 'dnsmasq'] as const) {
    const row = medians(taken.filter((it) => it.chain === chain))
    rows.push(row)
    say(describe(row))
  }
}
reportGoals('ways-in', goals(), rows)

function goals() {
  return WAYS.map(({ name, bootsBy }) => {
    const of = (chain: Chain) => rows.find((row) => row.way === name && row.chain === chain)
    const ratio = (of('bootwire')?.seconds.script ?? NaN) / (of('dnsmasq')?.seconds.script ?? NaN)
    return {
      name: `ways_in.script_vs_dnsmasq_${bootsBy.replaceAll('-', '_')}`,
      value: Number(ratio.toFixed(2)),
      goal: '<= 1.1',
    }
  })
}

async function importVdisk(): Promise<void> {
  await using server = await startServer()
  const image = await ensureExt4Image(rootfs)
  const imported = await server.run('vdisk', 'import', image, '--name', 'lab', '--access', 'anyone')
  if (imported.status !== 0) throw new Error(imported.stderr)
}

async function startServer(...options: string[]) {
  return await startServerProcessIn(
    (command) => host.command(command),
    join(folder.path, 'state'),
    '--address',
    LAN_HOST_ADDRESS,
    '--http-port',
    String(HTTP_PORT),
    '--ipxe-folder',
    ipxeFolder,
    '--unknown-clients',
    'vdisk:lab',
    ...options,
  )
}

async function measure(way: Way, chain: Chain): Promise<Row> {
  await using using = new AsyncDisposableStack()
  const own = chain === 'bootwire' ? ['--proxy-dhcp', '--tftp'] : []
  const server = using.use(await startServer(...own))
  if (chain === 'dnsmasq') {
    const { stdout } = await server.run(
      'pxe',
      'config',
      'dnsmasq',
      '--address',
      LAN_HOST_ADDRESS,
      '--ipxe-folder',
      ipxeFolder,
    )
    const dnsmasq = await startDnsmasq(stdout)
    using.defer(async () => {
      dnsmasq.kill('SIGTERM')
      await once(dnsmasq, 'exit')
    })
  }
  return await boot(way, chain, port)
}

/** The lines as they are printed, those for a proxyDHCP server and for TFTP among them. */
async function startDnsmasq(lines: string): Promise<ChildProcess> {
  const file = join(folder.path, 'dnsmasq.conf')
  const text = lines.replaceAll(/^# {3}/gm, '').replaceAll('NETWORK', '10.79.0.0')
  await writeFile(file, `interface=bwlan0\nbind-interfaces\n${text}`)
  const command = ['dnsmasq', '--keep-in-foreground', `--conf-file=${file}`]
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...host.command(command)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  await once(child, 'spawn')
  return child
}

async function boot(way: Way, chain: Chain, from: LanPort): Promise<Row> {
  const { firmware, bootsBy } = way
  const startedBytes = lan.bytesOf(from)
  await using machine = VirtualMachine.start({
    name: 'bench-ways-in',
    accelerator,
    firmware,
    network: { from, mac: '52:54:00:be:00:01', bootsBy },
  })
  const seconds: Partial<Record<keyof Steps, number>> = {}
  const megabytes: Partial<Record<keyof Steps, number>> = {}
  for (const [step, pattern] of MARKS) {
    const { atMs } = await machine.console.expect(pattern, { timeoutMs: BOOT_TIMEOUT_MS })
    seconds[step] = (atMs - machine.startedAtMs) / 1000
    megabytes[step] = (lan.bytesOf(from) - startedBytes) / 1e6
  }
  return { way: way.name, chain, seconds: seconds as Steps, megabytes: megabytes as Steps }
}

function medians(taken: readonly Row[]): Row {
  const [first] = taken
  if (first === undefined) throw new Error('nothing was measured')
  const of = (kind: 'seconds' | 'megabytes'): Steps => {
    const step = (name: keyof Steps) =>
      Number(median(taken.map((row) => row[kind][name])).toFixed(kind === 'seconds' ? 1 : 3))
    return { script: step('script'), kernel: step('kernel'), agent: step('agent') }
  }
  return { ...first, seconds: of('seconds'), megabytes: of('megabytes') }
}

function describe({ way, chain, seconds, megabytes }: Row): string {
  const share = ((seconds.kernel - seconds.script) / seconds.agent) * 100
  return `${way}, ${chain}: script at ${seconds.script} s (${megabytes.script} MB), kernel started at ${seconds.kernel} s (${megabytes.kernel} MB), agent at ${seconds.agent} s; iPXE's share from its script on ${share.toFixed(0)} %`
}
