/**
 * npm run demo: streams an operating system to a virtual machine without a disk. Runs as root after
 * demo.sh has installed what is needed. Ends server and machine on every way out; should it be
 * killed, the kernel ends them (setpriv --pdeathsig).
 */
import type { VirtualMachine } from '#test/support/virtual-machine.ts'
import { reachLogin, reportBoot, startDemoMachine } from './demo-boot.ts'
import { DEMO_USAGE, type DemoOptions, parseDemoOptions } from './demo-options.ts'
import { type DemoFailure, type DemoReport, formatReport } from './demo-report.ts'
import { DemoStage } from './demo-stage.ts'
import { relayTerminal } from './terminal-relay.ts'

const STATUS_FAILED = 1
const STATUS_USAGE = 2
/** What a shell says of a program that Ctrl-C ended. */
const STATUS_INTERRUPTED = 130

function write(text: string): void {
  process.stdout.write(text)
}

function say(line: string): void {
  write(`bootwire: ${line}\n`)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function main(): Promise<number> {
  let options: DemoOptions | 'help'
  try {
    options = parseDemoOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n\n${DEMO_USAGE}`)
    return STATUS_USAGE
  }
  if (options === 'help') {
    write(DEMO_USAGE)
    return 0
  }
  const interrupted = firstSignal()
  await using opened = new AsyncDisposableStack()
  try {
    return await Promise.race([run(options, opened), interrupted.then(() => STATUS_INTERRUPTED)])
  } catch (error) {
    const failure: DemoFailure = { ok: false, error: messageOf(error) }
    process.stderr.write(`bootwire: ${failure.error}\n`)
    if (options.json) write(`${JSON.stringify(failure)}\n`)
    return STATUS_FAILED
  }
}

async function run(options: DemoOptions, opened: AsyncDisposableStack): Promise<number> {
  const stage = opened.use(await DemoStage.prepare(options.disk, say))
  if (!options.exit)
    say('log in as root, without a password; "poweroff" ends the demo, Ctrl-A x too')
  const machine = opened.use(startDemoMachine(stage, options.memoryMiB))
  if (options.exit) {
    const report = await bootAndReport(stage, machine, options)
    write(options.json ? `${JSON.stringify(report)}\n` : formatReport(report))
    return 0
  }
  using relay = relayTerminal(machine)
  const status = await Promise.race([machine.exited, relay.quit.then(() => 0)])
  if (status === 0) return 0
  throw new Error(
    `the virtual machine ended with status ${status}:\n${machine.console.lastLines()}`,
  )
}

async function bootAndReport(
  stage: DemoStage,
  machine: VirtualMachine,
  options: DemoOptions,
): Promise<DemoReport> {
  if (!options.json) machine.console.onLine((line) => write(`  ${line}\n`))
  return await reportBoot(stage, machine, await reachLogin(machine))
}

/** Ctrl-C while things are built; in the machine's console it is a key like any other. */
async function firstSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => resolve())
    }
  })
}

const status = await main()
process.exit(status)
