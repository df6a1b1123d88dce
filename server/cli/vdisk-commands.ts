/** `bootwire vdisk …` */
import { basename } from 'node:path'
import type { ImportRequest, VDiskView } from '#server/admin/admin-api.ts'
import { formatBytes } from '#shared/units.ts'
import { callerPath } from './caller-path.ts'
import { adminClient, answer, type Cli, type CommonOptions, itemPath, withJson } from './command.ts'
import { ProgressLine } from './progress-line.ts'
import { formatPairs, formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'

interface ImportOptions extends CommonOptions {
  readonly file: string
  readonly name?: string | undefined
  readonly title?: string | undefined
  readonly rootPartition?: number | undefined
  readonly kernelOptional: boolean
  readonly json: boolean
}

export function vdiskCommands(cli: Cli, terminal: Terminal): Cli {
  return cli.command('vdisk', 'Import, list and remove vDisks', (cli) =>
    [importCommand, listCommand, showCommand, removeCommand]
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 vdisk import debian.img', 'make a vDisk of an image')
      .example('$0 vdisk ls', 'what there is')
      .demandCommand(1, 'Which vdisk command?'),
  )
}

function importCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'import <file>',
    'Make a vDisk of a disk image or a file-system image on the server',
    (cli) =>
      withJson(cli)
        .positional('file', { type: 'string', demandOption: true, describe: 'Image file' })
        .option('name', {
          type: 'string',
          requiresArg: true,
          describe: 'Name of the vDisk; else the name of the file',
        })
        .option('title', { type: 'string', requiresArg: true, describe: 'Line in the boot menu' })
        .option('root-partition', {
          type: 'number',
          requiresArg: true,
          describe: 'Partition of the root file system, counted from 1; else it is found',
        })
        .option('kernel-optional', {
          type: 'boolean',
          default: false,
          describe: 'Take an image without a kernel, to run on the default boot kernel',
        })
        .example('$0 vdisk import debian.img', 'vDisk "debian"')
        .example('$0 vdisk import /srv/kiosk.raw --name kiosk --title "Kiosk, May"', '')
        .example('$0 vdisk import dual.img --root-partition 3', 'root is on the third partition'),
    (options) => importVDisk(options, terminal),
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
    (cli) =>
      withJson(cli)
        .positional('vdisk', { type: 'string', demandOption: true, describe: 'Name of the vDisk' })
        .example('$0 vdisk show debian', ''),
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
    'Remove a vDisk that no running client uses',
    (cli) =>
      cli
        .positional('vdisk', { type: 'string', demandOption: true, describe: 'Name of the vDisk' })
        .option('force', {
          type: 'boolean',
          default: false,
          describe: 'Take it from the clients it is assigned to',
        })
        .example('$0 vdisk rm debian', '')
        .example('$0 vdisk rm debian --force', 'even if clients are to boot it'),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk, options.force ? '?force' : '')
      await adminClient(options).ask('DELETE', path)
      terminal.out(`Removed vDisk ${options.vdisk}\n`)
    },
  )
}

async function importVDisk(options: ImportOptions, terminal: Terminal): Promise<void> {
  const progress = new ProgressLine(terminal, () => performance.now())
  const result = await adminClient(options)
    .importVDisk(importRequest(options), (line) => progress.update(line))
    .finally(() => progress.end())
  for (const warning of result.warnings) terminal.err(`warning: ${warning}\n`)
  answer(terminal, options.json, result, ({ vdisk }) => formatVDisk(vdisk))
}

function importRequest(options: ImportOptions): ImportRequest {
  const { file, name = nameOfFile(file), title, rootPartition, kernelOptional } = options
  return {
    path: callerPath(file),
    name,
    kernelOptional,
    ...(title !== undefined && { title }),
    ...(rootPartition !== undefined && { rootPartition }),
  }
}

/** `/srv/Debian 12.img` → `debian-12`. */
export function nameOfFile(file: string): string {
  return basename(file)
    .replace(/\.(img|raw|iso|bin|dd|qcow2|vmdk|vdi|vhdx?)$/i, '')
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '-')
    .replace(/^[.-]+|[.-]+$/g, '')
}

function formatVDisks(vdisks: readonly VDiskView[]): string {
  if (vdisks.length === 0) return 'No vDisks yet: bootwire vdisk import FILE\n'
  return formatTable(
    ['NAME', 'SYSTEM', 'SIZE', 'STORED', 'KERNEL', 'CLIENTS', 'RUNNING', 'TITLE'],
    vdisks.map((vdisk) => {
      const version = vdisk.versions.find((v) => v.versionId === vdisk.productionVersionId)
      return [
        vdisk.name,
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

function formatVDisk(vdisk: VDiskView): string {
  const heads = formatPairs([
    ['title', vdisk.title],
    ['imported', formatTime(vdisk.createdAtMs)],
    ['assigned to', vdisk.clientIds.join(', ')],
    ['running on', `${vdisk.sessionCount} clients`],
  ])
  const versions = vdisk.versions.map((version) => {
    const { partition, fsType, options } = version.root
    const place = partition === 0 ? 'whole vDisk' : `partition ${partition}`
    return formatPairs([
      ['version', version.versionId],
      ['system', version.osName],
      ['size', `${formatBytes(version.sizeBytes)}, ${formatBytes(version.storedBytes)} stored`],
      ['root', [place, fsType, options].filter((part) => part !== '').join(', ')],
      ['kernel', version.kernel?.release ?? 'none: runs on the default boot kernel'],
    ])
  })
  return `vDisk ${vdisk.name}\n${heads}${versions.map((text) => `\n${text}`).join('')}`
}
