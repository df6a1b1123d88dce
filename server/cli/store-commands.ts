/** `bootwire check` and `bootwire gc` */
import type { CheckRequest, CheckView } from '#server/admin/admin-api.ts'
import type { GarbageReport } from '#server/store/chunk-store.ts'
import { parseShare } from '#shared/amounts.ts'
import { formatBytes } from '#shared/units.ts'
import {
  adminClient,
  answer,
  BadOutcome,
  type Cli,
  type CommonOptions,
  cancelable,
  withJson,
} from './command.ts'
import { ProgressLine } from './progress-line.ts'
import type { Terminal } from './terminal.ts'

export function checkCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'check',
    'Look whether the store of all vDisks is whole; exit status 1 when it is not',
    (cli) =>
      withJson(cli)
        .option('read-data', {
          type: 'string',
          describe: 'Read and verify the data, too: all of it, or a random share such as 5%',
        })
        .option('repair', {
          type: 'boolean',
          default: false,
          describe: 'Forget damaged chunks, so that importing their image again brings them back',
        })
        .example('$0 check', 'is everything there? Seconds')
        .example('$0 check --read-data', 'is every byte right? Minutes to hours')
        .example('$0 check --read-data=5%', 'another twentieth each night')
        .example('$0 check --read-data --repair', 'after a disk has failed'),
    async (options) => {
      const readDataShare = options.readData === undefined ? 0 : parseShare(options.readData)
      const request: CheckRequest = { readDataShare, repair: options.repair }
      const report = await onStore<CheckView>(options, terminal, '/store/check', request)
      answer(terminal, options.json, report, formatCheck)
      if (report.damages.length > 0) throw new BadOutcome()
    },
  )
}

export function gcCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'gc',
    'Free what no version holds any more; the server does it by itself after removals',
    (cli) => withJson(cli).example('$0 gc', ''),
    async (options) => {
      const report = await onStore<GarbageReport>(options, terminal, '/store/gc', {})
      answer(terminal, options.json, report, formatGarbage)
    },
  )
}

async function onStore<Result>(
  options: CommonOptions,
  terminal: Terminal,
  path: string,
  request: unknown,
): Promise<Result> {
  const progress = new ProgressLine(terminal, () => performance.now())
  const onProgress = progress.update.bind(progress)
  return await cancelable((signal) =>
    adminClient(options).stream<Result>(path, request, onProgress, signal),
  ).finally(() => progress.end())
}

export function formatCheck(report: CheckView): string {
  const { versions, chunks, storedBytes, chunksRead, damages, repairs } = report
  const read = chunksRead === 0 ? 'none read' : `${chunksRead} read and verified`
  const lines = [
    `Checked ${versions} versions, ${chunks} chunks (${read}), ${formatBytes(storedBytes)}`,
    ...damages.flatMap(({ text, versions }) => [`damaged: ${text}`, ...inVersions(versions)]),
    ...repairs.map((text) => `repaired: ${text}`),
    damages.length === 0 ? 'No damage found' : adviceOn(report),
  ]
  return `${lines.join('\n')}\n`
}

function inVersions(versions: readonly string[]): string[] {
  return versions.length === 0 ? [] : [`  in ${versions.join(', ')}`]
}

function adviceOn({ damages, repairs, incomplete }: CheckView): string {
  const count = `${damages.length} ${damages.length === 1 ? 'damage' : 'damages'} found`
  if (incomplete.length > 0) {
    return `${count}. Import the images of ${incomplete.join(', ')} again: what is missing is stored anew`
  }
  if (repairs.length === 0) return `${count}. To put in order what can be: bootwire check --repair`
  return `${count}; every version is whole again`
}

export function formatGarbage({
  removedChunks,
  removedBytes,
  keptDeadBytes,
}: GarbageReport): string {
  const kept =
    keptDeadBytes === 0 ? '' : `, ${formatBytes(keptDeadBytes)} lie among chunks in use and stay`
  if (removedChunks === 0) return `Nothing to free${kept}\n`
  return `Freed ${formatBytes(removedBytes)} of ${removedChunks} chunks${kept}\n`
}
