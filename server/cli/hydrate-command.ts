/** `bootwire client hydrate` */

import type { ClientView, HydrateRequest } from '#server/admin/admin-api.ts'
import { parseRate } from '#shared/amounts.ts'
import { CLIENT } from './arguments.ts'
import { formatHydration } from './client-stream.ts'
import { adminClient, type Cli, itemPath, UsageError } from './command.ts'
import type { Terminal } from './terminal.ts'

export function hydrateCommand(cli: Cli, terminal: Terminal): Cli {
  const flag = (describe: string) => ({ type: 'boolean', describe }) as const
  return cli.command(
    'hydrate <client>',
    'Say how a client with a disk cache fetches the rest of its vDisk in the background',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .option('resume', flag('Fetch everything while the client is idle; so it is unless told'))
        .option('pause', flag('Fetch only what is read, until --resume'))
        .option('off', flag('Never fetch more than what is read'))
        .option('rate', {
          type: 'string',
          requiresArg: true,
          describe: 'Most per second, such as 5MB/s or 40Mbit/s; none for no limit',
        })
        .conflicts('pause', ['resume', 'off'])
        .conflicts('resume', 'off')
        .example('$0 client hydrate client-1 --pause', '')
        .example('$0 client hydrate client-1 --resume --rate 5MB/s', ''),
    async (options) => {
      const request = hydrateRequest(options)
      const path = itemPath('clients', options.client, '/hydrate')
      const client = await adminClient(options).ask<ClientView>('POST', path, request)
      terminal.out(`Hydration of ${client.hostname}: ${formatHydration(client.hydration)}\n`)
    },
  )
}

function hydrateRequest(options: {
  readonly resume?: boolean | undefined
  readonly pause?: boolean | undefined
  readonly off?: boolean | undefined
  readonly rate?: string | undefined
}): HydrateRequest {
  const { resume, pause, off, rate } = options
  const mode = resume === true ? 'run' : pause === true ? 'pause' : off === true ? 'off' : undefined
  if (mode === undefined && rate === undefined) {
    throw new UsageError('Expected --resume, --pause, --off or --rate')
  }
  return {
    ...(mode !== undefined && { mode }),
    ...(rate !== undefined && { rateBytesPerSecond: parseRate(rate) }),
  }
}
