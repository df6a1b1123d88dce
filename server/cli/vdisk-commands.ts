/** `bootwire vdisk …` */

import type { VDiskView, VersionView } from '#server/admin/admin-api.ts'
import { writeCacheOf } from '#server/clients/write-cache-settings.ts'
import type { VersionRecord } from '#server/state/records.ts'
import { parseVersionSelector } from '#server/vdisks/version-selector.ts'
import { formatBytes } from '#shared/units.ts'
import { accessCommand, formatAccess } from './access-command.ts'
import { VDISK } from './arguments.ts'
import { adminClient, answer, type Cli, itemPath, withJson } from './command.ts'
import { exportCommand } from './export-command.ts'
import { importCommand } from './import-command.ts'
import { lintCommand } from './lint-command.ts'
import { formatPairs, formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'
import { traceCommand } from './trace-command.ts'
import { formatRoot, promoteCommand, rollbackCommand, versionsCommand } from './version-commands.ts'
import { formatWriteCache, vdiskWriteCacheCommand } from './write-cache-command.ts'

/** Changes of production shown by `vdisk show`. */
const HISTORY_SHOWN = 10

export function vdiskCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [
    importCommand,
    exportCommand,
    listCommand,
    showCommand,
    versionsCommand,
    promoteCommand,
    rollbackCommand,
    traceCommand,
    lintCommand,
    vdiskWriteCacheCommand,
    accessCommand,
    removeCommand,
  ]
  return cli.command('vdisk', 'Import, list and remove vDisks and their versions', (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 vdisk import debian.img', 'make a vDisk of an image, or its next version')
      .example('$0 vdisk promote debian 2', 'and the next boots get version 2')
      .example('$0 vdisk ls', 'what there is')
      .demandCommand(1, 'Which vdisk command?'),
  )
}

function listCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'ls',
    'List the vDisks',
    (cli) => withJson(cli).example('$0 vdisk ls', '').example('$0 vdisk ls --json', ''),
    async (options) => {
      const vdisks = await adminClient(options).ask<VDiskView[]>('GET', '/vdisks')
      answer(terminal, options.json, vdisks, formatVDisks)
    },
  )
}

function showCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'show <vdisk>',
    'Show a vDisk: system, kernel, root, versions, clients',
    (cli) => withJson(cli).positional('vdisk', VDISK).example('$0 vdisk show debian', ''),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk)
      answer(
        terminal,
        options.json,
        await adminClient(options).ask<VDiskView>('GET', path),
        formatVDisk,
      )
    },
  )
}

function removeCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rm <vdisk>',
    'Remove a vDisk, or one version of it, that no client runs on',
    (cli) =>
      cli
        .positional('vdisk', {
          type: 'string',
          demandOption: true,
          describe: 'NAME for all of it, or NAME@VERSION',
        })
        .option('force', {
          type: 'boolean',
          default: false,
          describe:
            'Take it from the clients it is assigned to, and from those whose connection was lost',
        })
        .example('$0 vdisk rm debian@2', 'version 2, not the vDisk')
        .example('$0 vdisk rm debian', '')
        .example('$0 vdisk rm debian --force', 'even if clients are to boot it'),
    async (options) => {
      const { vdisk, version } = parseVersionSelector(options.vdisk)
      const force = options.force ? '?force' : ''
      if (version === undefined) {
        await adminClient(options).ask('DELETE', itemPath('vdisks', vdisk, force))
        return terminal.out(`Removed vDisk ${vdisk}\n`)
      }
      const path = itemPath('vdisks', vdisk, `/versions/${encodeURIComponent(version)}${force}`)
      const removed = await adminClient(options).ask<VersionRecord>('DELETE', path)
      terminal.out(`Removed version ${removed.number} of vDisk ${vdisk}\n`)
    },
  )
}

function formatVDisks(vdisks: readonly VDiskView[]): string {
  if (vdisks.length === 0) return 'No vDisks yet: bootwire vdisk import FILE\n'
  return formatTable(
    ['NAME', 'VERSION', 'SYSTEM', 'SIZE', 'STORED', 'KERNEL', 'CLIENTS', 'RUNNING', 'TITLE'],
    vdisks.map((vdisk) => {
      const version = vdisk.versions.find((v) => v.versionId === vdisk.productionVersionId)
      return [
        vdisk.name,
        version === undefined ? '-' : versionOf(version, vdisk.versions.length),
        version?.osName ?? '-',
        formatBytes(version?.sizeBytes ?? 0),
        formatBytes(version?.storedBytes ?? 0),
        version?.kernel?.release ?? '-',
        String(vdisk.clientIds.length),
        String(vdisk.sessionCount),
        vdisk.title,
      ]
    }),
  )
}

/** `3 (5 kept)`: numbers are not counts, since versions are removed. */
function versionOf({ number }: VersionView, count: number): string {
  return count === 1 ? String(number) : `${number} (${count} kept)`
}

function formatVDisk(vdisk: VDiskView): string {
  const heads = formatPairs([
    ['title', vdisk.title],
    ['imported', formatTime(vdisk.createdAtMs)],
    ['for', formatAccess(vdisk.access)],
    ['assigned to', vdisk.clientIds.join(', ')],
    ['running on', `${vdisk.sessionCount} clients`],
    ['writes', formatWriteCache(writeCacheOf(undefined, vdisk))],
  ])
  const versions = vdisk.versions.map((version) =>
    formatPairs([
      ['version', `${version.number}${version.isInProduction ? ', in production' : ''}`],
      ['id', version.versionId],
      ['imported', formatTime(version.createdAtMs)],
      ['system', version.osName],
      ['size', `${formatBytes(version.sizeBytes)}, ${formatBytes(version.storedBytes)} stored`],
      ['root', formatRoot(version.root)],
      ['kernel', version.kernel?.release ?? 'none: runs on the default boot kernel'],
      ['running on', version.sessionCount === 0 ? undefined : `${version.sessionCount} clients`],
    ]),
  )
  return `vDisk ${vdisk.name}\n${heads}${versions.map((text) => `\n${text}`).join('')}${formatHistory(vdisk)}`
}

function formatHistory({ history }: VDiskView): string {
  if (history.length < 2) return ''
  const lines = history
    .slice(-HISTORY_SHOWN)
    .toReversed()
    .map(({ number, by, atMs }) => `  ${formatTime(atMs)}  version ${number}, by ${by}\n`)
  return `\nIn production\n${lines.join('')}`
}
