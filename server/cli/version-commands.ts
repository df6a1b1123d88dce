/** `bootwire vdisk versions`, `promote` and `rollback` */
import type { PromotionView, VersionView } from '#server/admin/admin-api.ts'
import { parseVersionSelector } from '#server/vdisks/version-selector.ts'
import { formatBytes } from '#shared/units.ts'
import type { FileSystemLocation, RootLocation } from '#shared/wire/messages.ts'
import { adminClient, answer, type Cli, itemPath, UsageError, withJson } from './command.ts'
import { formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'

const VDISK = { type: 'string', demandOption: true, describe: 'Name of the vDisk' } as const

/** Enough of an id to tell a version from all others. */
const ID_DIGITS_SHOWN = 12

export function versionsCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'versions <vdisk>',
    'List the versions of a vDisk, and which of them is in production',
    (cli) =>
      withJson(cli)
        .positional('vdisk', VDISK)
        .example('$0 vdisk versions debian', '')
        .example('$0 vdisk versions debian --json', ''),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk, '/versions')
      const versions = await adminClient(options).ask<VersionView[]>('GET', path)
      answer(terminal, options.json, versions, formatVersions)
    },
  )
}

export function promoteCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'promote <vdisk> [number]',
    'Put a version in production: the next boots get it, running clients keep theirs',
    (cli) =>
      withJson(cli)
        .positional('vdisk', { ...VDISK, describe: 'Name of the vDisk, or NAME@VERSION' })
        .positional('number', {
          type: 'string',
          describe: 'Number of the version, or the beginning of its id',
        })
        .example('$0 vdisk promote debian 3', '')
        .example('$0 vdisk promote debian@3', 'the same'),
    async (options) => {
      const { vdisk, version = options.number } = parseVersionSelector(options.vdisk)
      if (version === undefined)
        throw new UsageError('Which version? bootwire vdisk promote NAME VERSION')
      const path = itemPath('vdisks', vdisk, '/promote')
      const promotion = await adminClient(options).ask<PromotionView>('POST', path, { version })
      answer(terminal, options.json, promotion, formatPromotion)
    },
  )
}

export function rollbackCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'rollback <vdisk>',
    'Put the version back in production that was before; again goes further back',
    (cli) => withJson(cli).positional('vdisk', VDISK).example('$0 vdisk rollback debian', ''),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk, '/rollback')
      const promotion = await adminClient(options).ask<PromotionView>('POST', path, {})
      answer(terminal, options.json, promotion, formatPromotion)
    },
  )
}

export function formatVersions(versions: readonly VersionView[]): string {
  return formatTable(
    [
      'NUMBER',
      'ID',
      'IMPORTED',
      'SIZE',
      'STORED',
      'SHARED',
      'SYSTEM',
      'KERNEL',
      'RUNNING',
      'STATE',
    ],
    versions.map((version) => [
      String(version.number),
      version.versionId.slice(0, ID_DIGITS_SHOWN),
      formatTime(version.createdAtMs),
      formatBytes(version.sizeBytes),
      formatBytes(version.storedBytes),
      formatBytes(version.sharedBytes),
      version.osName,
      version.kernel?.release ?? '-',
      String(version.sessionCount),
      version.isInProduction ? 'production' : '-',
    ]),
  )
}

export function formatPromotion({ version, before }: PromotionView): string {
  const { vdisk, number } = version
  if (before?.versionId === version.versionId) {
    return `Nothing changed: ${vdisk}@${number} is in production already\n`
  }
  const instead = before === undefined ? '' : ` instead of ${vdisk}@${before.number}`
  return `The next boots get ${vdisk}@${number}${instead}; running clients keep what they have\n`
}

/** `partition 2, btrfs, subvol=@; /usr on volume vg-usr, ext4` */
export function formatRoot({ usr, ...root }: RootLocation): string {
  return formatPlace(root) + (usr === undefined ? '' : `; /usr on ${formatPlace(usr)}`)
}

function formatPlace({ partition, volume, fsType, options }: FileSystemLocation): string {
  const whole = partition === 0 ? 'whole vDisk' : `partition ${partition}`
  const place = volume === undefined ? whole : `volume ${volume.name}`
  return [place, fsType, options].filter((part) => part !== '').join(', ')
}
