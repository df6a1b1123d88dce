/** `bootwire capture …`: disks of machines that become vDisks. */
import type { CaptureView } from '#server/capture/captures.ts'
import { formatBytes } from '#shared/units.ts'
import { adminClient, answer, type Cli, itemPath, withJson } from './command.ts'
import { importOptionsOf, withImportOptions } from './import-command.ts'
import { formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Of an id. */
const ID_SHOWN = 8

export function captureCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [listCommand, approveCommand, removeCommand]
  return cli.command('capture', 'Make vDisks of the disks that machines have', (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 capture ls', 'after "bootwire-agent capture /dev/sda", or D on its screen')
      .example('$0 capture approve WDJB-MJHT --name pc-7', 'with the code that it shows')
      .demandCommand(1, 'Which capture command?'),
  )
}

function listCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'ls',
    'List machines that send their disk, or want to',
    (cli) => withJson(cli).example('$0 capture ls', ''),
    async (options) => {
      const all = await adminClient(options).ask<CaptureView[]>('GET', '/captures')
      answer(terminal, options.json, all, formatCaptures)
    },
  )
}

function approveCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'approve <code>',
    'Let a machine send its disk, and make it a vDisk or the next version of one',
    (cli) =>
      withImportOptions(withJson(cli))
        .positional('code', {
          type: 'string',
          demandOption: true,
          describe: 'As the machine\'s screen has it, or an id of "capture ls"',
        })
        .option('name', {
          type: 'string',
          demandOption: true,
          requiresArg: true,
          describe: 'Name of the vDisk. One that is there gets a new version',
        })
        .example('$0 capture approve WDJB-MJHT --name pc-7 --title "PC 7, May"', ''),
    async (options) => {
      const path = `${itemPath('captures', options.code)}/approve`
      const body = importOptionsOf(options.name, options)
      const view = await adminClient(options).ask<CaptureView>('POST', path, body)
      answer(
        terminal,
        options.json,
        view,
        ({ disk, mac, vdisk = '', sizeBytes }) =>
          `${disk} of ${mac}, ${formatBytes(sizeBytes)}, becomes vDisk "${vdisk}"; "bootwire capture ls" shows how far it is\n`,
      )
    },
  )
}

function removeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rm <code>',
    'Refuse a machine, or give up what it has sent',
    (cli) =>
      cli
        .positional('code', {
          type: 'string',
          demandOption: true,
          describe: 'As the machine\'s screen has it, or an id of "capture ls"',
        })
        .example('$0 capture rm 3f2a91c0', ''),
    async (options) => {
      const path = itemPath('captures', options.code)
      const { disk, mac } = await adminClient(options).ask<CaptureView>('DELETE', path)
      terminal.out(`${disk} of ${mac} is not taken\n`)
    },
  )
}

export function formatCaptures(all: readonly CaptureView[]): string {
  if (all.length === 0) return 'No machine wants to send its disk\n'
  return formatTable(
    ['ID', 'CODE', 'MACHINE', 'DISK', 'SIZE', 'STATE', 'VDISK', 'HEARD OF'],
    all.map((capture) => [
      capture.id.slice(0, ID_SHOWN),
      capture.state === 'waiting' ? capture.code : '-',
      [capture.mac, capture.product].filter(Boolean).join(', '),
      capture.disk,
      formatBytes(capture.sizeBytes),
      stateOf(capture),
      capture.vdisk ?? '-',
      formatTime(capture.seenAtMs),
    ]),
  )
}

function stateOf({ state, note, sizeBytes, receivedBytes }: CaptureView): string {
  if (state === 'approved') return `${Math.floor((100 * receivedBytes) / sizeBytes)} % is here`
  return note === '' ? state : `${state}: ${note}`
}
