/** `bootwire vdisk lint` */
import type { LintRequest, LintView } from '#server/admin/admin-api.ts'
import {
  hasSecrets,
  type LintFinding,
  type LintPlace,
  type LintReport,
  placeCount,
  SEVERITIES,
  type Severity,
} from '#server/lint/lint-report.ts'
import { parseVersionSelector } from '#server/vdisks/version-selector.ts'
import { callerPath } from './caller-path.ts'
import {
  adminClient,
  answer,
  type Cli,
  type CommonOptions,
  cancelable,
  itemPath,
  SecretsFound,
  UsageError,
  withJson,
} from './command.ts'
import { ProgressLine } from './progress-line.ts'
import type { Terminal } from './terminal.ts'

interface LintOptions extends CommonOptions {
  readonly vdisk?: string | undefined
  readonly file?: string | undefined
  readonly rootPartition?: number | undefined
  readonly json: boolean
}

const NAMES: Readonly<Record<Severity, readonly [one: string, several: string]>> = {
  secret: ['secret', 'secrets'],
  identity: ['identity', 'identities'],
  hint: ['hint', 'hints'],
}

export function lintCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'lint [vdisk]',
    'Look for what machines should not share: keys, passwords, machine-id. Exit status 3 when there are secrets',
    (cli) =>
      withJson(cli)
        .positional('vdisk', {
          type: 'string',
          describe: 'NAME for the version in production, or NAME@VERSION',
        })
        .option('file', {
          type: 'string',
          requiresArg: true,
          describe: 'An image on the server instead, before its import',
        })
        .option('root-partition', {
          type: 'number',
          requiresArg: true,
          describe: 'With --file: partition of the root, counted from 1; else it is found',
        })
        .conflicts('file', 'vdisk')
        .example('$0 vdisk lint debian', 'what is in it, and what to do about it')
        .example('$0 vdisk lint debian@2 --json', '')
        .example('$0 vdisk lint --file debian.img && $0 vdisk import debian.img', '')
        .epilogue(
          'Exit status: 0 no secrets, 3 secrets were found; machine-ids and the like, and hints, are told and do not count. No secret is ever shown.',
        ),
    (options) => lint(options, terminal),
  )
}

async function lint(options: LintOptions, terminal: Terminal): Promise<void> {
  const { path, request } = target(options)
  const progress = new ProgressLine(terminal, () => performance.now())
  const onProgress = progress.update.bind(progress)
  const view = await cancelable((signal) =>
    adminClient(options).stream<LintView>(path, request, onProgress, signal),
  ).finally(() => progress.end())
  answer(terminal, options.json, view, formatLint)
  if (hasSecrets(view)) throw new SecretsFound()
}

function target({ vdisk, file, rootPartition }: LintOptions): {
  readonly path: string
  readonly request?: LintRequest
} {
  if (file !== undefined) {
    const path = callerPath(file)
    const request = { path, ...(rootPartition !== undefined && { rootPartition }) }
    return { path: '/images/lint', request }
  }
  if (vdisk === undefined) throw new UsageError('Expected the name of a vDisk, or --file IMAGE')
  if (rootPartition !== undefined) throw new UsageError('Expected --root-partition with --file')
  const { vdisk: name, version } = parseVersionSelector(vdisk)
  const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
  return { path: itemPath('vdisks', name, `/lint${query}`) }
}

export function formatLint(view: LintView): string {
  const { subject, findings, incomplete } = view
  const head = findings.length === 0 ? 'nothing found' : counts(findings)
  const after = hasSecrets(view) ? [AFTERWARDS] : []
  return [
    `${subject}: ${head}\n`,
    ...findings.map((finding) => `\n${formatFinding(finding)}`),
    ...[...incomplete, ...after].map((sentence) => `\n${sentence}.\n`),
  ].join('')
}

/** Kinds told of after an import, secrets first; the rest is a command away. */
const WARNINGS_MAX = 5

/** Warnings after an import, each with what to do; hints are left out. */
export function lintWarnings({ findings }: LintReport, subject: string): string[] {
  const serious = findings.filter(({ severity }) => severity !== 'hint')
  if (serious.length === 0) return []
  const lines = serious
    .slice(0, WARNINGS_MAX)
    .map((it) => `${it.severity}: ${it.what}: ${placesOf(it)}. ${it.action}`)
  return [...lines, `All that was found (${counts(findings)}): bootwire vdisk lint ${subject}`]
}

const AFTERWARDS =
  'What was removed may still lie in free space of the image: fstrim it, or write zeros there. Then import it again, and remove the versions that have it'

function counts(findings: readonly LintFinding[]): string {
  const numbers = SEVERITIES.map((severity) => {
    const counted = findings.filter((finding) => finding.severity === severity)
    const count = counted.reduce((sum, finding) => sum + placeCount(finding), 0)
    return count === 0 ? [] : [`${count} ${NAMES[severity][count === 1 ? 0 : 1]}`]
  })
  return numbers.flat().join(', ')
}

function formatFinding({ severity, what, places, more, action }: LintFinding): string {
  const lines = places.map((place) => `  ${formatPlace(place)}\n`)
  const others = more === 0 ? '' : `  ${andOthers(more)}\n`
  return `${severity}: ${what}\n${lines.join('')}${others}  > ${action}\n`
}

function placesOf(finding: LintFinding): string {
  const [first] = finding.places
  const others = placeCount(finding) - 1
  return `${first === undefined ? '' : formatPlace(first)}${others > 0 ? ` ${andOthers(others)}` : ''}`
}

function andOthers(count: number): string {
  return `and ${count} ${count === 1 ? 'other' : 'others'}`
}

function formatPlace({ path, detail }: LintPlace): string {
  return detail === undefined ? path : `${path} (${detail})`
}
