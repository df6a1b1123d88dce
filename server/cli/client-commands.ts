/** `bootwire client …` */

import type { ClientDetails, ClientView, VDiskView } from '#server/admin/admin-api.ts'
import { writeCacheOf } from '#server/clients/write-cache-settings.ts'
import { formatBytes } from '#shared/units.ts'
import { CLIENT } from './arguments.ts'
import { streamPairs } from './client-stream.ts'
import { adminClient, answer, type Cli, type CommonOptions, itemPath, withJson } from './command.ts'
import { hydrateCommand } from './hydrate-command.ts'
import { formatSettings, settingsCommand } from './settings-command.ts'
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
    revokeCommand,
    replaceKeyCommand,
    confirmCommand,
    assignCommand,
    settingsCommand,
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
        .option('trust-key', {
          type: 'boolean',
          default: false,
          describe: 'Vouch for the key that it shows without comparing the code on its screen',
        })
        .example('$0 client approve WDJB-MJHT --vdisk lab', 'by the code that its screen shows')
        .example('$0 client approve client-1', '')
        .example('$0 client approve client-1 --vdisk debian', 'and it boots debian'),
    async (options) => {
      const { vdisk: vdisks, trustKey } = options
      const client = await act(options, 'approve', { vdisks, trustKey })
      const hint =
        client.assignments.length > 0
          ? ''
          : `It has no vDisk yet: bootwire client assign ${client.hostname} VDISK\n`
      terminal.out(`Approved ${client.hostname}\n${hint}${await withheldHint(options, client)}`)
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

function revokeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'revoke <client>',
    'The key of a client counts no more: it gets nothing before it is approved with another one',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .option('cut', {
          type: 'boolean',
          default: false,
          describe: 'Also cut off the system that runs on it now, which stands still then',
        })
        .example('$0 client revoke client-7', 'what runs may go on until it is switched off')
        .example('$0 client revoke client-7 --cut', 'a stolen machine'),
    async (options) => {
      const client = await act(options, 'revoke', { cut: options.cut })
      terminal.out(`Revoked the key of ${client.hostname}\n`)
    },
  )
}

function replaceKeyCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'replace-key <client> <by>',
    'A machine that claims to be a client is it, with a new key: a new disk, a cleared TPM',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('by', {
          type: 'string',
          demandOption: true,
          describe: 'The code that the screen of the machine shows',
        })
        .example('$0 client replace-key client-7 WDJB-MJHT', ''),
    async (options) => {
      const client = await act(options, 'replace-key', { by: options.by })
      terminal.out(`${client.hostname} has a new key, and its former one counts no more\n`)
    },
  )
}

function confirmCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'confirm <client> <by>',
    'A machine that came as a new one is this client: a changed network card, board or machine',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('by', { ...CLIENT, describe: 'The machine that waits' })
        .example('$0 client confirm reception client-9', 'client-9 is gone, reception goes on'),
    async (options) => {
      const client = await act(options, 'confirm', { by: options.by })
      terminal.out(`That machine is ${client.hostname} now\n`)
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
      const withheld = await withheldHint(options, client)
      terminal.out(`${client.hostname} boots ${client.assignments.join(', ')}\n${hint}${withheld}`)
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
    'Give a client another host name, also while it runs',
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

/** What a client without a key is assigned, and does not get. */
async function withheldHint(options: CommonOptions, client: ClientView): Promise<string> {
  if (client.key !== undefined || client.assignments.length === 0) return ''
  const vdisks = await adminClient(options).ask<VDiskView[]>('GET', '/vdisks')
  const withheld = vdisks.filter(
    ({ name, access }) => access !== 'anyone' && client.assignments.includes(name),
  )
  return withheld
    .map(
      ({ name }) =>
        `${name} is only for machines that prove who they are by a key, and no key of this one was vouched for. For all: bootwire vdisk access ${name} anyone\n`,
    )
    .join('')
}

function formatClients(clients: readonly ClientView[], none: string): string {
  if (clients.length === 0) return `${none}\n`
  return formatTable(
    ['HOSTNAME', 'ID', 'STATE', 'KEY', 'CONNECTION', 'MAC', 'ADDRESS', 'LAST SEEN', 'VDISKS'],
    clients.map((client) => [
      client.hostname,
      client.id,
      client.state,
      keyState(client),
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
    ['key', describeKey(client)],
    [client.claimsToBe === undefined ? 'known by' : 'may be it by', client.knownBy?.join(', ')],
    ['claims to be', client.claimsToBe],
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
    ['settings', formatSettings(client.settings)],
    ['SSH host key', client.settings.sshHostKey],
    ['first seen', formatTime(client.firstSeenMs)],
    ['last seen', formatTime(client.lastSeenMs)],
  ])
  const boots = shown.length === 0 ? '' : `\nLast boots\n${shown.map(formatBoot).join('')}`
  return `Client ${client.hostname}\n${pairs}${boots}`
}

/** In a column: the code where one is shown. */
function keyState({ key, enrolCode, offeredKey }: ClientView): string {
  if (enrolCode !== undefined) return enrolCode
  if (key !== undefined) return 'yes'
  return offeredKey === undefined ? 'not authenticated' : 'not vouched for'
}

function describeKey({ key, offeredKey, enrolCode }: ClientDetails): string {
  const parts: string[] = []
  if (key !== undefined) {
    parts.push(`${key.fingerprint}, ${KEY_PLACE[key.place]}, since ${formatTime(key.sinceMs)}`)
  }
  if (offeredKey !== undefined) {
    const code = enrolCode === undefined ? '' : `, its screen shows ${enrolCode}`
    parts.push(`nobody has vouched for ${offeredKey.fingerprint}${code}`)
  }
  return parts.join('; ') || 'none: not authenticated'
}

const KEY_PLACE = {
  tpm: 'in its TPM',
  partition: 'on a partition of its own',
  cache: 'on its cache disk',
} as const

/** `debian (4f1c…), kiosk (…)` */
function keptOver({ keptVersions }: ClientDetails): string | undefined {
  if (keptVersions === undefined) return undefined
  return Object.entries(keptVersions)
    .map(([vdisk, versionId]) => `${vdisk} (${versionId.slice(0, ID_SHOWN)})`)
    .join(', ')
}
