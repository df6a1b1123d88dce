/** `bootwire join …`: whom to admit without comparing codes. */
import type { JoinCreated, JoinRequest, JoinView } from '#server/admin/admin-api.ts'
import { parseDuration } from '#shared/amounts.ts'
import { adminClient, answer, type Cli, type CommonOptions, itemPath, withJson } from './command.ts'
import { formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Of an id. */
const ID_SHOWN = 8

export function joinCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [tokenCommand, subnetCommand, listCommand, removeCommand]
  return cli.command('join', 'Admit machines beforehand: by tokens, or from a subnet', (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 join token --vdisk lab --uses 30', 'for the sticks of a technician')
      .example('$0 join subnet 10.0.5.0/24 --for 30m --uses 30 --vdisk lab', 'a room is set up')
      .demandCommand(1, 'Which join command?'),
  )
}

function tokenCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'token',
    'Make a token that admits machines which bring it along (bootwire.join=TOKEN)',
    (cli) =>
      withLimits(cli, '24h', 1)
        .example('$0 join token --vdisk lab', 'one machine, today')
        .example('$0 join token --uses 30 --for 7d --vdisk lab', ''),
    async (options) => {
      const created = await create(options, {})
      answer(
        terminal,
        options.json,
        created,
        ({ token, grant }) => `${token ?? ''}\n${describe(grant)}; it is not shown again\n`,
      )
    },
  )
}

function subnetCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'subnet <subnet>',
    'Admit whoever comes from a subnet, for a while',
    (cli) =>
      withLimits(cli, '30m', undefined)
        .positional('subnet', {
          type: 'string',
          demandOption: true,
          describe: 'Such as 10.0.5.0/24',
        })
        .example(
          '$0 join subnet 10.0.5.0/24 --uses 30 --vdisk lab',
          'thirty machines, half an hour',
        ),
    async (options) => {
      const created = await create(options, { subnet: options.subnet })
      answer(terminal, options.json, created, ({ grant }) => `${describe(grant)}\n`)
    },
  )
}

function listCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'ls',
    'List tokens and subnets, and how many machines they have admitted',
    (cli) => withJson(cli).example('$0 join ls', ''),
    async (options) => {
      const all = await adminClient(options).ask<JoinView[]>('GET', '/join')
      answer(terminal, options.json, all, formatGrants)
    },
  )
}

function removeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rm <id>',
    'A token or subnet admits nobody any more; whom it has admitted stays',
    (cli) =>
      cli
        .positional('id', { type: 'string', demandOption: true, describe: 'As "join ls" has it' })
        .example('$0 join rm 3f2a91c0', ''),
    async (options) => {
      const removed = await adminClient(options).ask<JoinView>(
        'DELETE',
        itemPath('join', options.id),
      )
      terminal.out(`Removed ${removed.kind} ${removed.id.slice(0, ID_SHOWN)}\n`)
    },
  )
}

interface LimitOptions extends CommonOptions {
  readonly for: string
  readonly uses?: number | undefined
  readonly vdisk: string[]
}

async function create(
  options: LimitOptions,
  kind: Pick<JoinRequest, 'subnet'>,
): Promise<JoinCreated> {
  const { uses, vdisk: vdisks } = options
  const seconds = Math.round(parseDuration(options.for) / 1000)
  const body = { ...kind, seconds, vdisks, ...(uses !== undefined && { uses }) }
  return await adminClient(options).ask<JoinCreated>('POST', '/join', body)
}

function withLimits(cli: Cli, forDefault: string, usesDefault: number | undefined) {
  return withJson(cli)
    .option('for', {
      type: 'string',
      default: forDefault,
      requiresArg: true,
      describe: 'How long, such as 30m, 24h or 7d',
    })
    .option('uses', {
      type: 'number',
      requiresArg: true,
      ...(usesDefault !== undefined && { default: usesDefault }),
      describe: 'How many machines at most',
    })
    .option('vdisk', {
      type: 'string',
      array: true,
      default: [] as string[],
      requiresArg: true,
      describe: 'vDisk they get; may be given several times',
    })
}

function describe(view: JoinView): string {
  const { uses, untilMs, vdisks } = view
  const whom =
    view.kind === 'subnet' ? `whoever comes from ${view.subnet}` : 'who brings this token'
  const many = uses === undefined ? 'any number of machines' : `${uses} of them`
  const what = vdisks.length === 0 ? 'no vDisk yet' : vdisks.join(', ')
  return `Admits ${whom}, ${many}, until ${formatTime(untilMs)}, with ${what}`
}

function formatGrants(all: readonly JoinView[]): string {
  if (all.length === 0) return 'Nobody is admitted beforehand\n'
  return formatTable(
    ['ID', 'KIND', 'ADMITTED', 'UNTIL', 'VDISKS'],
    all.map((grant) => [
      grant.id.slice(0, ID_SHOWN),
      grant.kind === 'subnet' ? grant.subnet : 'token',
      `${grant.used}${grant.uses === undefined ? '' : ` of ${grant.uses}`}`,
      grant.isOver ? 'over' : formatTime(grant.untilMs),
      grant.vdisks.join(', ') || '-',
    ]),
  )
}
