/** `bootwire client write-cache` and `bootwire vdisk write-cache`. */

import type { ClientView, VDiskView, WriteCacheRequest } from '#server/admin/admin-api.ts'
import { DEFAULT_WRITE_CACHE } from '#server/clients/write-cache-settings.ts'
import { parseSize } from '#shared/amounts.ts'
import { formatBytes } from '#shared/units.ts'
import type { WriteCacheSettings } from '#shared/wire/messages.ts'
import { CLIENT, VDISK } from './arguments.ts'
import { adminClient, type Cli, itemPath, UsageError } from './command.ts'
import type { Terminal } from './terminal.ts'

const PLACES = ['auto', 'ram', 'disk', 'server'] as const

export function clientWriteCacheCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'write-cache <client>',
    'Say where a client keeps what it writes, from its next boot on',
    (cli) =>
      withSettings(cli)
        .positional('client', CLIENT)
        .example('$0 client write-cache client-1 --place disk --keep', 'it finds its work again')
        .example('$0 client write-cache client-1 --inherit', 'as its vDisk says'),
    async (options) => {
      const path = itemPath('clients', options.client, '/write-cache')
      const client = await adminClient(options).ask<ClientView>('POST', path, wishOf(options))
      terminal.out(`Writes of ${client.hostname}: ${formatOwn(client.writeCache, 'its vDisk')}\n`)
    },
  )
}

export function vdiskWriteCacheCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'write-cache <vdisk>',
    'Say where clients keep what they write over a vDisk, from their next boot on',
    (cli) =>
      withSettings(cli)
        .positional('vdisk', VDISK)
        .example('$0 vdisk write-cache debian --place ram', 'never on a disk, never on the server')
        .example('$0 vdisk write-cache debian --limit 4GiB', ''),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk, '/write-cache')
      const vdisk = await adminClient(options).ask<VDiskView>('POST', path, wishOf(options))
      terminal.out(`Writes over ${vdisk.name}: ${formatOwn(vdisk.writeCache, 'the default')}\n`)
    },
  )
}

export function discardWritesCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'discard-writes <client> <vdisk>',
    'Give up what a client keeps over a vDisk; its next boot gets the version in production',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('vdisk', VDISK)
        .example('$0 client discard-writes client-1 debian', ''),
    async (options) => {
      const path = itemPath('clients', options.client, '/discard-writes')
      const body = { vdisk: options.vdisk }
      const client = await adminClient(options).ask<ClientView>('POST', path, body)
      terminal.out(`Nothing is kept for ${client.hostname} over ${options.vdisk} any more\n`)
    },
  )
}

/** `in memory, then on the local disk; dropped at the next boot; at most 4.00 GiB` */
export function formatWriteCache({ place, isKept, limitBytes }: WriteCacheSettings): string {
  const where = {
    auto: 'in memory, then on the local disk, then on the server',
    ram: 'in memory',
    disk: 'on the local disk',
    server: 'on the server',
  }[place]
  const limit = limitBytes === 0 ? '' : `; at most ${formatBytes(limitBytes)}`
  return `${where}; ${isKept ? 'kept' : 'dropped at the next boot'}${limit}`
}

function formatOwn(own: Partial<WriteCacheSettings> | undefined, other: string): string {
  if (own === undefined) return `as ${other} has it`
  const isPartial = Object.keys(own).length < Object.keys(DEFAULT_WRITE_CACHE).length
  const text = formatWriteCache({ ...DEFAULT_WRITE_CACHE, ...own })
  return isPartial ? `${text}; where nothing is said, as ${other} has it` : text
}

function withSettings(cli: Cli) {
  const flag = (describe: string) => ({ type: 'boolean', describe }) as const
  return cli
    .option('place', {
      choices: PLACES,
      requiresArg: true,
      describe: 'auto is memory, then the local disk, then the server',
    })
    .option('keep', flag('The next boot finds it again, over the same version'))
    .option('drop', flag('Each boot begins anew'))
    .option('limit', {
      type: 'string',
      requiresArg: true,
      describe: 'Most that may be written, such as 4GiB; none for as much as there is room',
    })
    .option('inherit', flag('Take back what was set here'))
    .conflicts('keep', 'drop')
    .conflicts('inherit', ['place', 'keep', 'drop', 'limit'])
}

function wishOf(options: {
  readonly place?: (typeof PLACES)[number] | undefined
  readonly keep?: boolean | undefined
  readonly drop?: boolean | undefined
  readonly limit?: string | undefined
  readonly inherit?: boolean | undefined
}): WriteCacheRequest {
  const { place, keep, drop, limit, inherit } = options
  if (inherit === true) return { place: null, isKept: null, limitBytes: null }
  const isKept = keep === true ? true : drop === true ? false : undefined
  if (place === undefined && isKept === undefined && limit === undefined) {
    throw new UsageError('Expected --place, --keep, --drop, --limit or --inherit')
  }
  return {
    ...(place !== undefined && { place }),
    ...(isKept !== undefined && { isKept }),
    ...(limit !== undefined && { limitBytes: parseSize(limit) }),
  }
}
