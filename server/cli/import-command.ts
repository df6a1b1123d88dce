/** `bootwire vdisk import` */
import { createReadStream, fstatSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import type { Readable } from 'node:stream'
import { isatty } from 'node:tty'
import type { Argv } from 'yargs'
import type { ImportOptions, ImportResult } from '#server/admin/admin-api.ts'
import type { VDiskAccess } from '#server/vdisks/vdisk.ts'
import { formatBytes, MiB } from '#shared/units.ts'
import { ACCESSES } from './access-command.ts'
import { callerPath } from './caller-path.ts'
import {
  adminClient,
  answer,
  type Cli,
  type CommonOptions,
  cancelable,
  STDIO,
  UsageError,
  withJson,
} from './command.ts'
import { lintWarnings } from './lint-command.ts'
import { ProgressLine } from './progress-line.ts'
import { formatDuration, formatPairs, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'
import { formatRoot } from './version-commands.ts'

interface ImportCommandOptions extends CommonOptions, GivenImportOptions {
  readonly file: string
  readonly name?: string | undefined
  readonly json: boolean
}

export function importCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'import <file>',
    'Make a vDisk, or the next version of one, of a disk or file-system image',
    (cli) =>
      withImportOptions(withJson(cli))
        .positional('file', {
          type: 'string',
          demandOption: true,
          describe:
            'Image on the server (with --server, on this machine): raw, qcow2, VMDK, VHD, VHDX, VDI, a block device; - reads standard input',
        })
        .option('name', {
          type: 'string',
          requiresArg: true,
          describe:
            'Name of the vDisk; else the name of the file. One that is there gets a new version',
        })
        .example('$0 vdisk import debian.img', 'vDisk "debian", or its next version')
        .example(
          '$0 vdisk import debian-2.qcow2 --name debian --promote',
          'and the next boots get it',
        )
        .example('zstdcat kiosk.img.zst | $0 vdisk import - --name kiosk', 'from a pipe')
        .example('$0 vdisk import /dev/sdb --name pc-7 --title "PC 7, May"', 'a whole disk')
        .example('$0 vdisk import dual.img --root-partition 3', 'root is on the third partition'),
    (options) => importVDisk(options, terminal),
  )
}

/** What an import is told beside its image and its name. */
export function withImportOptions<Options extends CommonOptions>(cli: Argv<Options>) {
  return cli
    .option('promote', {
      type: 'boolean',
      default: false,
      describe: 'The next boots get the new version at once',
    })
    .option('access', {
      choices: ACCESSES,
      requiresArg: true,
      describe: 'Who gets the vDisk; a new one is for machines that prove who they are',
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
}

async function importVDisk(options: ImportCommandOptions, terminal: Terminal): Promise<void> {
  const startedMs = performance.now()
  const progress = new ProgressLine(terminal, () => performance.now())
  const result = await cancelable((signal) => runImport(options, progress, signal)).finally(() =>
    progress.end(),
  )
  const seconds = (performance.now() - startedMs) / 1000
  for (const warning of warningsOf(result)) terminal.err(`warning: ${warning}\n`)
  answer(terminal, options.json, result, (result) => formatImported(result, seconds))
}

function warningsOf({ warnings, lint, version }: ImportResult): readonly string[] {
  if (lint === undefined) return warnings
  return [...warnings, ...lintWarnings(lint, `${version.vdisk}@${version.number}`)]
}

async function runImport(
  options: ImportCommandOptions,
  progress: ProgressLine,
  signal: AbortSignal,
): Promise<ImportResult> {
  const client = adminClient(options)
  const onProgress = progress.update.bind(progress)
  const piped = pipedImage(options.file) ?? (client.isRemote ? fileHere(options.file) : undefined)
  if (piped !== undefined) {
    return await client.uploadVDisk(piped, importOptions(options), onProgress, signal)
  }
  const path = callerPath(options.file)
  return await client.importVDisk({ path, ...importOptions(options) }, onProgress, signal)
}

/** What only this process can read: its standard input, or a pipe the shell made (`<(zcat …)`). */
function pipedImage(file: string): Readable | undefined {
  if (file === STDIO) return standardInput()
  const path = callerPath(file)
  const isPipe = statSync(path, { throwIfNoEntry: false })?.isFIFO() === true
  return isPipe ? createReadStream(path) : undefined
}

/** A server that is administered from afar cannot open it. */
function fileHere(file: string): Readable {
  const path = callerPath(file)
  if (statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw new UsageError(`Cannot send "${path}": there is no such file on this machine`)
  }
  return createReadStream(path, { highWaterMark: MiB })
}

function standardInput(): Readable {
  const fd = 0
  if (isatty(fd)) throw new UsageError('Expected an image on standard input, not a terminal')
  // Node reads a file in pieces of 64 KiB unless told otherwise.
  const isFile = fstatSync(fd).isFile()
  return isFile ? createReadStream('', { fd, highWaterMark: MiB, autoClose: false }) : process.stdin
}

function importOptions(options: ImportCommandOptions): ImportOptions {
  const { file } = options
  const name = options.name ?? (file === STDIO ? '' : nameOfFile(file))
  if (name === '') throw new UsageError('Expected --name: standard input has none')
  return importOptionsOf(name, options)
}

export interface GivenImportOptions {
  readonly title?: string | undefined
  readonly rootPartition?: number | undefined
  readonly kernelOptional: boolean
  readonly promote: boolean
  readonly access?: VDiskAccess | undefined
}

export function importOptionsOf(name: string, options: GivenImportOptions): ImportOptions {
  const { title, rootPartition, kernelOptional, promote, access } = options
  return {
    name,
    kernelOptional,
    promote,
    ...(title !== undefined && { title }),
    ...(access !== undefined && { access }),
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

export function formatImported(result: ImportResult, seconds: number): string {
  const { version, outcome, format } = result
  const { vdisk, number, sizeBytes, storedBytes, sharedBytes } = version
  if (outcome === 'unchanged') {
    const when = formatTime(version.createdAtMs)
    return `This image is ${vdisk}@${number} already, imported ${when}\n${nextBoots(result)}`
  }
  const head = {
    created: `vDisk ${vdisk}, imported in ${formatDuration(seconds)}`,
    added: `${vdisk}@${number}, a new version of vDisk ${vdisk}, imported in ${formatDuration(seconds)}`,
    updated: `${vdisk}@${number} has the same bytes and was looked at again: its root or kernel is another now`,
  }[outcome]
  const shared = sharedBytes === 0 ? '' : `, ${formatBytes(sharedBytes)} of it were there already`
  const pairs = formatPairs([
    ['version', `${number}, ${version.versionId}`],
    ['system', version.osName],
    ['size', `${formatBytes(sizeBytes)}${format === 'raw' ? '' : ` (from ${format})`}`],
    ['stored', `${formatBytes(storedBytes)}${shared}`],
    ['root', formatRoot(version.root)],
    ['kernel', version.kernel?.release ?? 'none: runs on the default boot kernel'],
  ])
  return `${head}\n${pairs}${nextBoots(result)}`
}

function nextBoots({ vdisk, version, outcome }: ImportResult): string {
  if (outcome === 'created') return ''
  const { name, versions } = vdisk
  if (version.isInProduction) return `The next boots get ${name}@${version.number}.\n`
  const production = versions.find(({ isInProduction }) => isInProduction)
  const still = production === undefined ? 'another version' : `${name}@${production.number}`
  return `The next boots get ${still} still. To give them this one: bootwire vdisk promote ${name} ${version.number}\n`
}
