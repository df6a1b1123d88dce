/**
 * Records what a boot reads: the image is served to QEMU over NBD by nbdkit, which logs every request
 * and its answer; what the machine writes goes to a temporary layer above the image. Kernel and initrd
 * come from QEMU, as they come from iPXE in a boot by network, and are not in the record; nor is what
 * the firmware looks at.
 *
 * Every read is delayed as by a network. Answered at once, reads that a real client has under way
 * together (readahead, several programs) would follow one another, and a replay over a slow link would
 * wait for each of them.
 *
 * It goes on for a while after the system is up, as a trace of the agent does. A record is a text: a
 * line `up_ms` and when that was; a line that names columns; then a line for each access, `at_ms done_ms
 * op offset_bytes size_bytes`, all parted by tabs. Times count from the first access. It is kept beside
 * the image.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { invariant } from '#shared/invariant.ts'
import { chooseAccelerator } from '#test/support/accelerator.ts'
import { CACHE_FOLDER, ensureBuilt } from '#test/support/build-cache.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'
import { VmConsole } from '#test/support/vm-console.ts'
import { say } from './report.ts'

export interface BootRecipe {
  /** A bare file system. */
  readonly image: string
  readonly kernel: string
  readonly initrd: string
  readonly memoryMiB: number
  /** What the serial console shows when the boot is over. */
  readonly upPattern: RegExp
}

export interface BootRecord {
  /** When somebody could work, since the first access. */
  readonly upMs: number
  readonly accesses: readonly BootAccess[]
}

export interface BootAccess {
  /** Since the first access: when it was asked for, and answered. */
  readonly atMs: number
  readonly doneMs: number
  readonly op: 'read' | 'write'
  readonly offsetBytes: number
  readonly sizeBytes: number
}

const UP = 'up_ms'
const COLUMNS = 'at_ms\tdone_ms\top\toffset_bytes\tsize_bytes'

/** A network between two places of one company. */
const READ_DELAY_MS = 20

/** The agent records as long after a login is offered. */
const AFTER_UP_MS = 30_000

/** How much faster a machine thinks than the emulated one that was recorded. */
export const THINK_DIVISOR = 5

/** A machine that shares its processors with others thinks longer. */
const NICENESS = '-10'

/** Both screens, since X runs on one and we read the other; an image for the benches has no fstab. */
const CMDLINE = 'root=/dev/vda rw console=tty0 console=ttyS0'

/** As `virtual-machine.ts` has it: the translated code of a whole boot fits. */
const TCG = 'tcg,thread=multi,tb-size=512'

/** A desktop on an emulated processor takes several times what a login prompt takes. */
const DESKTOP_TIMEOUT_MS = 3 * BOOT_TIMEOUT_MS

/** Where a boot of the image is recorded. */
export function bootRecordPath({ image }: BootRecipe, number: number): string {
  return `${image}.boot-${number}.tsv`
}

/** Boots the image when that was not recorded yet; boots of other numbers are other boots of it. */
export async function ensureBootRecord(recipe: BootRecipe, number = 1): Promise<BootRecord> {
  const path = await ensureBuilt(bootRecordPath(recipe, number), async (path) => {
    say(`recording boot ${number} of ${recipe.image}`)
    await writeFile(path, formatRecord(await recordBoot(recipe)))
  })
  return parseRecord(await readFile(path, 'utf8'))
}

function formatRecord({ upMs, accesses }: BootRecord): string {
  const lines = accesses.map(({ atMs, doneMs, op, offsetBytes, sizeBytes }) =>
    [atMs.toFixed(3), doneMs.toFixed(3), op, offsetBytes, sizeBytes].join('\t'),
  )
  return [`${UP}\t${upMs.toFixed(3)}`, COLUMNS, ...lines, ''].join('\n')
}

/** @throws when the text is not a record */
export function parseRecord(text: string): BootRecord {
  const [up, columns, ...lines] = text.trimEnd().split('\n')
  const [name, upMs] = up?.split('\t') ?? []
  invariant(name === UP && columns === COLUMNS, `a record of a boot begins with "${UP}"`)
  return { upMs: Number(upMs), accesses: lines.map(parseAccess) }
}

function parseAccess(line: string): BootAccess {
  const [atMs, doneMs, op, offsetBytes, sizeBytes] = line.split('\t')
  invariant(op === 'read' || op === 'write', `an access is read or write: "${line}"`)
  return {
    atMs: Number(atMs),
    doneMs: Number(doneMs),
    op,
    offsetBytes: Number(offsetBytes),
    sizeBytes: Number(sizeBytes),
  }
}

/** What was asked for before the system was up. */
export function untilUp({ upMs, accesses }: BootRecord): BootAccess[] {
  return accesses.filter(({ atMs }) => atMs <= upMs)
}

async function recordBoot(recipe: BootRecipe): Promise<BootRecord> {
  let upAtMs = Number.NaN
  await using folder = await createTemporaryFolder()
  const socket = join(folder.path, 'nbd.sock')
  const log = join(folder.path, 'nbd.log')
  const server = start(
    [
      ['nbdkit', '-f', '-U', socket, '--filter=log', '--filter=delay', '--filter=cow'],
      ['file', recipe.image, `logfile=${log}`, `rdelay=${READ_DELAY_MS}ms`],
    ].flat(),
  )
  try {
    await eventually(
      'nbdkit listens',
      async () => (await stat(socket).catch(() => undefined))?.isSocket() ?? false,
    )
    upAtMs = await bootUntilUp(recipe, socket)
  } finally {
    await stop(server, 'SIGTERM')
  }
  return parseLog(await readFile(log, 'utf8'), upAtMs)
}

/** Returns the time of the day when the system was up. */
async function bootUntilUp(recipe: BootRecipe, socket: string): Promise<number> {
  const accelerator = await chooseAccelerator(recipe.kernel)
  const machine = start(
    [
      [
        'nice',
        '-n',
        NICENESS,
        'qemu-system-x86_64',
        '-accel',
        accelerator === 'tcg' ? TCG : accelerator,
        '-cpu',
        'max',
      ],
      ['-smp', '2', '-m', String(recipe.memoryMiB), '-nic', 'none', '-no-reboot'],
      ['-vga', 'std', '-display', 'none', '-monitor', 'none', '-serial', 'stdio'],
      ['-kernel', recipe.kernel, '-initrd', recipe.initrd, '-append', CMDLINE],
      ['-drive', `file=nbd:unix:${socket},format=raw,if=virtio`],
    ].flat(),
  )
  const logs = join(CACHE_FOLDER, 'logs')
  await mkdir(logs, { recursive: true })
  const log = join(logs, `record-${basename(dirname(recipe.image))}.log`)
  const console = new VmConsole(log, () => undefined)
  machine.stdout?.on('data', (bytes: Buffer) => console.receive(bytes))
  machine.once('exit', () => console.end('QEMU ended'))
  try {
    await console.expect(recipe.upPattern, { timeoutMs: DESKTOP_TIMEOUT_MS })
    const upAtMs = Date.now()
    await setTimeout(AFTER_UP_MS)
    return upAtMs
  } finally {
    await stop(machine, 'SIGKILL')
  }
}

/** Starts a program that ends with this one. */
function start(command: readonly string[]): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}

/** `2026-11-25 23:40:00.123456 connection=1 Read id=7 offset=0x1000 count=0x2000 ...` */
const ASKED =
  /^(?<at>\S+ \S+) connection=(?<connection>\d+) (?<op>Read|Write) id=(?<id>\d+) offset=0x(?<offset>[0-9a-f]+) count=0x(?<count>[0-9a-f]+)/
/** `2026-11-25 23:40:00.143456 connection=1 ...Read id=7 return=0` */
const ANSWERED = /^(?<at>\S+ \S+) connection=(?<connection>\d+) \.\.\.(?:Read|Write) id=(?<id>\d+) /

/** What firmware reads at a time; Linux reads more. */
const SECTOR_BYTES = 512

/** nbdkit's log, of which each request is one line and each answer another. */
export function parseLog(log: string, upAtMs: number): BootRecord {
  const accesses: (BootAccess & { atMs: number; doneMs: number })[] = []
  const asked = new Map<string, { doneMs: number }>()
  for (const line of log.split('\n')) {
    const answer = ANSWERED.exec(line)?.groups
    if (answer !== undefined) {
      const access = asked.get(`${answer['connection']} ${answer['id']}`)
      if (access !== undefined) access.doneMs = milliseconds(answer['at'] ?? '')
      continue
    }
    const { at = '', connection, id, op, offset = '', count = '' } = ASKED.exec(line)?.groups ?? {}
    if (op === undefined) continue
    const access: (typeof accesses)[number] = {
      atMs: milliseconds(at),
      doneMs: Number.POSITIVE_INFINITY,
      op: op === 'Read' ? 'read' : 'write',
      offsetBytes: Number.parseInt(offset, 16),
      sizeBytes: Number.parseInt(count, 16),
    }
    accesses.push(access)
    asked.set(`${connection} ${id}`, access)
  }
  // Those that were answered: the machine is switched off while it works.
  const answered = accesses
    .slice(accesses.findIndex((it) => it.sizeBytes > SECTOR_BYTES))
    .filter(({ doneMs }) => Number.isFinite(doneMs))
  const firstMs = answered[0]?.atMs ?? 0
  return {
    upMs: upAtMs - firstMs,
    accesses: answered.map((it) => {
      return { ...it, atMs: it.atMs - firstMs, doneMs: it.doneMs - firstMs }
    }),
  }
}

/** Of a date, a time and microseconds, which `Date` does not know. */
function milliseconds(at: string): number {
  const [seconds = '', microseconds = ''] = at.split('.')
  return Date.parse(`${seconds.replace(' ', 'T')}Z`) + Number(microseconds) / 1000
}
