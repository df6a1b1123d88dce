/** `bootwire media`: bootstrap media for networks in which PXE is not possible. */
import { resolve } from 'node:path'
import type { StatusView } from '#server/admin/admin-api.ts'
import { defaultServeOptions } from '#server/config.ts'
import { buildMedia, MEDIA_KINDS } from '#server/media/media-image.ts'
import { type MediaOptions, renderMediaScript } from '#server/media/media-script.ts'
import { adminClient, type Cli, type CommonOptions, cancelable } from './command.ts'
import type { Terminal } from './terminal.ts'

interface MediaCommandOptions extends CommonOptions {
  readonly at: readonly string[]
  readonly trust?: string | undefined
}

export function mediaCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'media <kind> <out>',
    'Make a bootstrap medium: a hybrid ISO, a stick, or a folder for an EFI system partition',
    (cli) =>
      withMediaOptions(cli)
        .example('$0 media iso bootwire.iso --at 10.0.0.1', 'address by DHCP')
        .example('$0 media usb stick.img --at 10.0.0.1 --at 10.0.0.2 --vlan 42', 'two servers')
        .example('$0 media usb stick.img --address 10.0.0.9/24 --at 10.0.0.1', 'no DHCP')
        .example('$0 media iso any.iso', 'asks the network, then a person, for the server'),
    async (options) => {
      const script = renderMediaScript({
        ...options,
        pin: await pinFor(options),
        servers: options.at,
      })
      const { kind, ipxeFolder } = options
      const path = resolve(options.out)
      await cancelable((signal) => buildMedia({ kind, path, script, ipxeFolder }, signal))
      terminal.out(`${path} is ready\n`)
    },
  )
}

function withMediaOptions(cli: Cli) {
  return cli
    .positional('kind', { choices: MEDIA_KINDS, demandOption: true, describe: 'What to make' })
    .positional('out', { type: 'string', demandOption: true, describe: 'Where to write it' })
    .option('at', {
      type: 'string',
      array: true,
      default: [] as string[],
      requiresArg: true,
      describe:
        'Server to boot from, HOST or HOST:PORT of its --http-port; several are asked in turn',
    })
    .option('trust', {
      type: 'string',
      requiresArg: true,
      describe: 'Key that machines trust, as "key show" has it; "own" is that of the server here',
    })
    .option('join-token', {
      type: 'string',
      requiresArg: true,
      describe: 'Token of "join token" that admits the machines',
    })
    .option('address', {
      type: 'string',
      requiresArg: true,
      describe: 'IPv4 address of the machine with its prefix, 10.0.0.9/24; else DHCP is asked',
    })
    .option('gateway', { type: 'string', requiresArg: true, describe: 'With --address' })
    .option('dns', { type: 'string', requiresArg: true, describe: 'With --address' })
    .option('vlan', { type: 'number', requiresArg: true, describe: 'VLAN that it is in, tagged' })
    .option('ipxe-folder', {
      type: 'string',
      default: defaultServeOptions().ipxeFolder,
      requiresArg: true,
      describe: 'Folder with ipxe.efi and ipxe.lkrn, of 2021 or later',
    })
}

async function pinFor(options: MediaCommandOptions): Promise<MediaOptions['pin']> {
  if (options.trust !== 'own') return options.trust
  return (await adminClient(options).ask<StatusView>('GET', '/status')).pin
}
