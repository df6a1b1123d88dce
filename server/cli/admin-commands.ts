/** `bootwire admin …` and `bootwire audit`: who administers from afar, and who changed what. */
import type {
  AdministratorCreated,
  AdministratorRequest,
  AdministratorView,
} from '#server/admin/admin-api.ts'
import type { AuditEntry } from '#server/administrators/audit-log.ts'
import { TOKEN_ROLES } from '#server/administrators/roles.ts'
import { printable } from '#server/printable.ts'
import { parseDuration } from '#shared/amounts.ts'
import { adminClient, answer, type Cli, itemPath, withJson } from './command.ts'
import { formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'

export function adminCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [addCommand, listCommand, removeCommand]
  return cli.command('admin', 'Who may administer this server from afar', (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 admin add helpdesk --role operator --for 90d', 'prints a token')
      .demandCommand(1, 'Which admin command?'),
  )
}

function addCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'add <name>',
    'Make a token for somebody (for "serve --admin-port")',
    (cli) =>
      withJson(cli)
        .positional('name', {
          type: 'string',
          demandOption: true,
          describe: 'As it will stand in the audit log',
        })
        .option('role', {
          choices: TOKEN_ROLES,
          demandOption: true,
          describe: 'viewer looks; operator looks after machines; administrator does everything',
        })
        .option('for', {
          type: 'string',
          requiresArg: true,
          describe: 'How long, such as 90d; else until it is removed',
        })
        .example('$0 admin add helpdesk --role operator --for 90d', ''),
    async (options) => {
      const { name, role } = options
      const seconds =
        options.for === undefined ? {} : { seconds: Math.round(parseDuration(options.for) / 1000) }
      const body: AdministratorRequest = { name, role, ...seconds }
      const created = await adminClient(options).ask<AdministratorCreated>(
        'POST',
        '/administrators',
        body,
      )
      answer(terminal, options.json, created, ({ token, administrator }) => {
        const { untilMs } = administrator
        const end = untilMs === undefined ? '' : `, until ${formatTime(untilMs)}`
        return `${token}\n${name} is ${role}${end}; the token is not shown again\n`
      })
    },
  )
}

function listCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'ls',
    'List who may administer from afar',
    (cli) => withJson(cli).example('$0 admin ls', ''),
    async (options) => {
      const all = await adminClient(options).ask<AdministratorView[]>('GET', '/administrators')
      answer(terminal, options.json, all, formatAdministrators)
    },
  )
}

function removeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rm <name>',
    'End a token, from the next request on',
    (cli) =>
      cli
        .positional('name', {
          type: 'string',
          demandOption: true,
          describe: 'As "admin ls" has it',
        })
        .example('$0 admin rm helpdesk', ''),
    async (options) => {
      const path = itemPath('administrators', options.name)
      const removed = await adminClient(options).ask<AdministratorView>('DELETE', path)
      terminal.out(`The token of ${removed.name} is no longer valid\n`)
    },
  )
}

export function auditCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'audit',
    'Show who changed what, the last change first',
    (cli) =>
      withJson(cli)
        .option('by', { type: 'string', requiresArg: true, describe: 'Of this administrator' })
        .option('subject', {
          type: 'string',
          requiresArg: true,
          describe: 'About this client or vDisk',
        })
        .option('limit', {
          type: 'number',
          default: 50,
          requiresArg: true,
          describe: 'How many changes',
        })
        .example('$0 audit --subject client-1', '')
        .example('$0 audit --json', 'with all that was before and after'),
    async (options) => {
      const query = new URLSearchParams({ limit: String(options.limit) })
      if (options.by !== undefined) query.set('by', options.by)
      if (options.subject !== undefined) query.set('subject', options.subject)
      const entries = await adminClient(options).ask<AuditEntry[]>(
        'GET',
        `/audit?${query.toString()}`,
      )
      answer(terminal, options.json, entries, formatAudit)
    },
  )
}

function formatAdministrators(all: readonly AdministratorView[]): string {
  if (all.length === 0) return 'Nobody administers this server from afar\n'
  return formatTable(
    ['NAME', 'ROLE', 'UNTIL', 'ADDED BY'],
    all.map(({ name, role, untilMs, isOver, createdBy }) => [
      name,
      role,
      isOver ? 'over' : untilMs === undefined ? '-' : formatTime(untilMs),
      createdBy,
    ]),
  )
}

/** Exported for tests. */
export function formatAudit(entries: readonly AuditEntry[]): string {
  if (entries.length === 0) return 'Nothing was changed\n'
  return formatTable(
    ['TIME', 'BY', 'FROM', 'ACTION', 'SUBJECT', 'OUTCOME', 'CHANGE'],
    entries.map(({ at, by, address, action, subject, outcome, before, after }) => [
      formatTime(Date.parse(at)),
      printable(by),
      address ?? '-',
      printable(action),
      printable(subject ?? '-'),
      outcome,
      printable(formatChange(before, after)),
    ]),
  )
}

/** `state: "pending" → "approved"`, field by field. */
function formatChange(before: unknown = {}, after: unknown = {}): string {
  const earlier = before as Record<string, unknown>
  const later = after as Record<string, unknown>
  const names = [...new Set([...Object.keys(earlier), ...Object.keys(later)])]
  return names.length === 0
    ? '-'
    : names.map((name) => `${name}: ${brief(earlier[name])} → ${brief(later[name])}`).join('; ')
}

/** A line is read, not parsed: --json has all. */
const VALUE_LENGTH_MAX = 60

function brief(value: unknown): string {
  const text = value === undefined ? 'none' : JSON.stringify(value)
  return text.length <= VALUE_LENGTH_MAX ? text : `${text.slice(0, VALUE_LENGTH_MAX - 1)}…`
}
