/** `bootwire client …` */

import type { ClientDetails, ClientView } from '#server/admin/admin-api.ts'
import { writeCacheOf } from '#server/clients/write-cache-settings.ts'
import { formatBytes } from '#shared/units.ts'
import { CLIENT } from './arguments.ts'
import { streamPairs } from './client-stream.ts'
import { adminClient, answer, type Cli, type CommonOptions, itemPath, withJson } from './command.ts'
import { hydrateCommand } from './hydrate-command.ts'
import { formatPairs, formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'
import { formatBoot } from './timeline.ts'
import {
  clientWriteCacheCommand,
  discardWritesCommand,
  formatWriteCache,
} from './write-cache-command.ts'

const VDISKS = {
  type: 'string',
  array: true,
  demandOption: true,
  describe: 'Names of vDisks',
} as const

/** Of a version's id. */
const ID_SHOWN = 12

/** Boots shown by `client show`. */
const BOOTS_SHOWN = 5

export function clientCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [
    listCommand,
    showCommand,
    approveCommand,
    refuseCommand,
    assignCommand,
    unassignCommand,
    renameCommand,
    hydrateCommand,
    clientWriteCacheCommand,
    discardWritesCommand,
    removeCommand,
  ]
  return cli.command('client', 'List, approve and assign clients', (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 client ls --pending', 'who waits for approval')
      .example('$0 client approve client-1 --vdisk debian', 'let a machine boot a vDisk')
      .demandCommand(1, 'Which client command?'),
  )
}

function listCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'ls',
    'List the clients',
    (cli) =>
      withJson(cli)
        .option('pending', {
          type: 'boolean',
          default: false,
          describe: 'Only those that wait for approval',
        })
        .example('$0 client ls', '')
        .example('$0 client ls --pending', 'who waits for approval'),
    async (options) => {
      const all = await adminClient(options).ask<ClientView[]>('GET', '/clients')
      const shown = options.pending ? all.filter(({ state }) => state === 'pending') : all
      const none = all.length === 0 ? 'No clients yet' : 'No client waits for approval'
      answer(terminal, options.json, shown, (clients) => formatClients(clients, none))
    },
  )
}

function showCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'show <client>',
    'Show a client: facts, state, assignments, last boots',
    (cli) =>
      withJson(cli)
        .positional('client', CLIENT)
        .example('$0 client show client-1', '')
        .example('$0 client show 52:54:00:12:34:56 --json', ''),
    async (options) => {
      const path = itemPath('clients', options.client)
      const client = await adminClient(options).ask<ClientDetails>('GET', path)
      answer(terminal, options.json, client, formatClient)
    },
  )
}

function approveCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'approve <client>',
    'Admit a client, and assign vDisks to it at once if wished',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .option('vdisk', {
          type: 'string',
          array: true,
          default: [] as string[],
          requiresArg: true,
          describe: 'vDisk to assign; may be given several times',
        })
        .example('$0 client approve client-1', '')
        .example('$0 client approve client-1 --vdisk debian', 'and it boots debian'),
    async (options) => {
      const client = await act(options, 'approve', { vdisks: options.vdisk })
      const hint =
        client.assignments.length > 0
          ? ''
          : `It has no vDisk yet: bootwire client assign ${client.hostname} VDISK\n`
      terminal.out(`Approved ${client.hostname}\n${hint}`)
    },
  )
}

function refuseCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'refuse <client>',
    'Turn a client away at its next boot',
    (cli) => cli.positional('client', CLIENT).example('$0 client refuse client-7', ''),
    async (options) => {
      const client = await act(options, 'refuse')
      terminal.out(`Refused ${client.hostname}\n`)
    },
  )
}

function assignCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'assign <client> <vdisks..>',
    'Add vDisks at the end of the menu of a client',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('vdisks', VDISKS)
        .option('only', {
          type: 'boolean',
          default: false,
          describe: 'Instead of those assigned before',
        })
        .example('$0 client assign client-1 debian', '')
        .example('$0 client assign client-1 debian ubuntu', 'a menu of two')
        .example('$0 client assign client-1 ubuntu --only', 'ubuntu and nothing else'),
    async (options) => {
      const { vdisks, only } = options
      const client = await act(options, 'assign', { vdisks, only })
      const hint =
        client.state === 'approved'
          ? ''
          : `It may not boot yet: bootwire client approve ${client.hostname}\n`
      terminal.out(`${client.hostname} boots ${client.assignments.join(', ')}\n${hint}`)
    },
  )
}

function unassignCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'unassign <client> <vdisks..>',
    'Take vDisks from the menu of a client',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('vdisks', VDISKS)
        .example('$0 client unassign client-1 ubuntu', ''),
    async (options) => {
      const client = await act(options, 'unassign', { vdisks: options.vdisks })
      const left = client.assignments.join(', ') || 'nothing'
      terminal.out(`${client.hostname} boots ${left}\n`)
    },
  )
}

function renameCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rename <client> <hostname>',
    'Give a client another host name, from its next boot on',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('hostname', { type: 'string', demandOption: true, describe: 'New host name' })
        .example('$0 client rename client-1 reception', ''),
    async (options) => {
      const client = await act(options, 'rename', { hostname: options.hostname })
      terminal.out(`${options.client} is ${client.hostname} now\n`)
    },
  )
}

function removeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rm <client>',
    'Forget a client with its host name and machine-id',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .option('force', { type: 'boolean', default: false, describe: 'Even while it runs' })
        .example('$0 client rm client-7', ''),
    async (options) => {
      const path = itemPath('clients', options.client, options.force ? '?force' : '')
      await adminClient(options).ask('DELETE', path)
      terminal.out(`Removed client ${options.client}\n`)
    },
  )
}

async function act(
  options: CommonOptions & { readonly client: string },
  action: string,
  body?: unknown,
): Promise<ClientView> {
  const path = itemPath('clients', options.client, `/${action}`)
  return await adminClient(options).ask<ClientView>('POST', path, body ?? {})
}

function formatClients(clients: readonly ClientView[], none: string): string {
  if (clients.length === 0) return `${none}\n`
  return formatTable(
    ['HOSTNAME', 'ID', 'STATE', 'CONNECTION', 'MAC', 'ADDRESS', 'LAST SEEN', 'VDISKS'],
    clients.map((client) => [
      client.hostname,
      client.id,
      client.state,
      client.connection,
      client.facts.macs[0] ?? '-',
      client.address ?? '-',
      formatTime(client.lastSeenMs),
      client.assignments.join(', ') || '-',
    ]),
  )
}

function formatClient(client: ClientDetails): string {
  const { facts } = client
  const shown = client.boots.slice(0, BOOTS_SHOWN)
  const pairs = formatPairs([
    ['id', client.id],
    ['state', `${client.state}, ${client.connection}`],
    ['vDisks', client.assignments.join(', ') || 'none'],
    ['last choice', client.lastChoice],
    ['machine-id', client.machineId],
    ['MAC', facts.macs.join(', ')],
    ['UUID', facts.uuid],
    ['serial', facts.systemSerial],
    ['board serial', facts.boardSerial],
    ['machine', [facts.manufacturer, facts.product].filter((part) => part !== undefined).join(' ')],
    ['memory', facts.memoryBytes === undefined ? undefined : formatBytes(facts.memoryBytes)],
    ['address', client.address],
    ['writes', client.writeCache && formatWriteCache(writeCacheOf(client, undefined))],
    ['kept over', keptOver(client)],
    ...streamPairs(client),
    ['first seen', formatTime(client.firstSeenMs)],
    ['last seen', formatTime(client.lastSeenMs)],
  ])
  const boots = shown.length === 0 ? '' : `\nLast boots\n${shown.map(formatBoot).join('')}`
  return `Client ${client.hostname}\n${pairs}${boots}`
}

/** `debian (4f1c…), kiosk (…)` */
function keptOver({ keptVersions }: ClientDetails): string | undefined {
  if (keptVersions === undefined) return undefined
  return Object.entries(keptVersions)
    .map(([vdisk, versionId]) => `${vdisk} (${versionId.slice(0, ID_SHOWN)})`)
    .join(', ')
}
