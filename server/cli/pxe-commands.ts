/** `bootwire pxe …`: the way from firmware to this server. */

import { isIPv4 } from 'node:net'
import type { Argv } from 'yargs'
import { ENTRY_SCRIPT_PATH, programPath } from '#server/boot/boot-paths.ts'
import { defaultServeOptions } from '#server/config.ts'
import { DHCP_SERVERS, dhcpConfig } from '#server/pxe/dhcp-config.ts'
import { ownAddresses } from '#server/pxe/own-addresses.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Cli } from './command.ts'
import type { Terminal } from './terminal.ts'

export function pxeCommands(cli: Cli, terminal: Terminal): Cli {
  return cli.command('pxe', 'Lead firmware to this server', (cli) =>
    configCommand(cli, terminal)
      .example('$0 pxe config dnsmasq', 'when a DHCP server of yours is to name this server')
      .demandCommand(1, 'Which pxe command?'),
  )
}

function configCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'config <dhcp-server>',
    'Print what a DHCP server needs to be told, instead of "serve --proxy-dhcp"',
    (cli) =>
      (cli as Argv)
        .positional('dhcp-server', {
          choices: DHCP_SERVERS,
          demandOption: true,
          describe: 'Whose configuration; dnsmasq was run with it, the others were not',
        })
        .option('address', {
          type: 'string',
          requiresArg: true,
          describe: "This server's IPv4 address; else the first that this machine has",
        })
        .option('http-port', {
          type: 'number',
          default: defaultServeOptions().httpPort,
          requiresArg: true,
          describe: 'As of "serve"',
        })
        .option('ipxe-folder', {
          type: 'string',
          default: defaultServeOptions().ipxeFolder,
          requiresArg: true,
          describe: 'As of "serve"',
        })
        .example('$0 pxe config kea --address 10.0.0.1', ''),
    (options) => {
      const address = options.address ?? ownAddresses()[0]
      if (address === undefined || !isIPv4(address)) {
        throw new BootwireError(
          'INVALID_ARGUMENT',
          `Cannot use --address ${address ?? ''}: expected the IPv4 address of this server`,
        )
      }
      const { httpPort, ipxeFolder } = options
      const paths = { scriptPath: ENTRY_SCRIPT_PATH, programPath }
      terminal.out(dhcpConfig(options.dhcpServer, { address, httpPort, ipxeFolder, ...paths }))
    },
  ) as Cli
}
