/** `bootwire vdisk access` */
import type { VDiskView } from '#server/admin/admin-api.ts'
import type { VDiskAccess } from '#server/vdisks/vdisk.ts'
import { VDISK } from './arguments.ts'
import { adminClient, type Cli, itemPath } from './command.ts'
import type { Terminal } from './terminal.ts'

export const ACCESSES: readonly VDiskAccess[] = ['anyone', 'authenticated']

export function accessCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'access <vdisk> <who>',
    'Say who gets a vDisk: anyone it is assigned to, or machines that prove who they are',
    (cli) =>
      cli
        .positional('vdisk', VDISK)
        .positional('who', {
          choices: ACCESSES,
          demandOption: true,
          describe: 'authenticated is for machines with a key that was vouched for',
        })
        .example('$0 vdisk access kiosk anyone', 'also machines that have no place for a key')
        .example('$0 vdisk access lab authenticated', ''),
    async (options) => {
      const path = itemPath('vdisks', options.vdisk, '/access')
      const vdisk = await adminClient(options).ask<VDiskView>('POST', path, { access: options.who })
      terminal.out(`vDisk ${vdisk.name} is for ${formatAccess(vdisk.access)}\n`)
    },
  )
}

export function formatAccess(access: VDiskView['access']): string {
  return access === 'anyone' ? 'anyone it is assigned to' : 'machines that prove who they are'
}
