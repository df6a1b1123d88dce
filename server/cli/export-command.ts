/** `bootwire vdisk export` */
import { parseVersionSelector } from '#server/vdisks/version-selector.ts'
import { formatBytes } from '#shared/units.ts'
import type { Content } from './admin-client.ts'
import { callerPath } from './caller-path.ts'
import {
  adminClient,
  type Cli,
  type CommonOptions,
  cancelable,
  itemPath,
  STDIO,
  UsageError,
} from './command.ts'
import { type ExportTarget, openExportTarget, streamTarget } from './export-target.ts'
import { ProgressLine } from './progress-line.ts'
import { formatDuration } from './table.ts'
import type { Terminal } from './terminal.ts'

interface ExportOptions extends CommonOptions {
  readonly vdisk: string
  readonly file: string
  readonly force: boolean
}

export function exportCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'export <vdisk> <file>',
    'Write a version as a raw disk image: the bytes it was imported from, verified',
    (cli) =>
      cli
        .positional('vdisk', {
          type: 'string',
          demandOption: true,
          describe: 'NAME for the version in production, or NAME@VERSION',
        })
        .positional('file', {
          type: 'string',
          demandOption: true,
          describe: 'File or block device to write; - writes to standard output',
        })
        .option('force', {
          type: 'boolean',
          default: false,
          describe: 'Replace a file that is there, overwrite a block device',
        })
        .example('$0 vdisk export debian debian.img', 'the version in production')
        .example('$0 vdisk export debian@2 - | zstd >debian-2.img.zst', 'version 2, compressed'),
    (options) => exportVDisk(options, terminal),
  )
}

async function exportVDisk(options: ExportOptions, terminal: Terminal): Promise<void> {
  const startedMs = performance.now()
  const { vdisk, version } = parseVersionSelector(options.vdisk)
  const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
  const path = itemPath('vdisks', vdisk, `/content${query}`)
  const progress = new ProgressLine(terminal, () => performance.now())
  await cancelable(async (signal) => {
    const target = await openTarget(options)
    try {
      const content = await adminClient(options).content(path, signal)
      await copy(content, target, progress)
      await target.finish()
      const { number, sizeBytes } = content.head.version
      progress.end()
      const seconds = formatDuration((performance.now() - startedMs) / 1000)
      terminal.err(`Exported ${vdisk}@${number}: ${formatBytes(sizeBytes)} in ${seconds}\n`)
    } finally {
      progress.end()
      await target.abandon()
    }
  })
}

/** A name that promises another format than what would be in it. */
const FOREIGN_NAME = /\.(?<format>qcow2?|vmdk|vdi|vhdx?)$/i

async function openTarget({ file, force }: ExportOptions): Promise<ExportTarget> {
  const format = FOREIGN_NAME.exec(file)?.groups?.['format']
  if (format !== undefined) {
    throw new UsageError(
      `Expected a name for a raw disk image, not one that ends with .${format}. Export to a raw image and make of it what you need with "qemu-img convert"`,
    )
  }
  if (file !== STDIO) return await openExportTarget(callerPath(file), { force })
  if (process.stdout.isTTY) throw new UsageError('Expected standard output to be a file or a pipe')
  return streamTarget(process.stdout)
}

async function copy(content: Content, target: ExportTarget, progress: ProgressLine): Promise<void> {
  const totalBytes = content.head.version.sizeBytes
  let doneBytes = 0
  try {
    for await (const { bytes, lengthBytes } of content.parts) {
      if (bytes === undefined) await target.writeZeros(lengthBytes)
      else await target.write(bytes)
      doneBytes += lengthBytes
      progress.update({ stage: 'exporting', doneBytes, totalBytes })
    }
  } finally {
    content.close()
  }
}
