/** `bootwire serve`, `status` and `boots`. */
import type { Argv } from 'yargs'
import type { BootView, StatusView } from '#server/admin/admin-api.ts'
import { defaultServeOptions, serveConfig } from '#server/config.ts'
import { formatBytes } from '#shared/units.ts'
import { adminClient, answer, type Cli, type CommonOptions, withJson } from './command.ts'
import { formatDuration, formatPairs, formatTable, formatTime } from './table.ts'
import type { Terminal } from './terminal.ts'
import { formatEnd, formatTimeline } from './timeline.ts'

const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export function serveCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'serve',
    'Run the server in the foreground, until SIGTERM or Ctrl-C',
    (cli) =>
      withServeOptions(cli)
        .example('$0 serve', '')
        .example('$0 serve --unknown-clients vdisk:kiosk', 'whoever comes boots the vDisk kiosk')
        .example('$0 serve --address 10.0.0.1 --http-port 80', 'on one address, the usual port')
        .example('$0 serve --proxy-dhcp --tftp', 'machines set to network boot come here'),
    async (options) => {
      // Loaded here, so that the other commands do not wait for the whole server.
      const [{ startServer }, { createLog }] = await Promise.all([
        import('#server/serve.ts'),
        import('#server/log.ts'),
      ])
      const log = createLog({ json: options.logJson, level: options.logLevel }, (line) =>
        terminal.err(line),
      )
      const config = serveConfig(options)
      const stopping = firstSignal(['SIGTERM', 'SIGINT'])
      const server = await startServer(config, { log })
      terminal.out(
        `bootwire: ready http://${hostInUrl(config.address)}:${server.httpPort} tls ${server.tlsPort}${adminPortText(server.adminPort)} pin ${server.pin}\n`,
      )
      log.info({ signal: await stopping }, 'stopping')
      await server.stop()
    },
  )
}

function adminPortText(adminPort: number | undefined): string {
  return adminPort === undefined ? '' : ` admin ${adminPort}`
}

/** Where it listens. */
function withPorts(cli: Cli) {
  const defaults = defaultServeOptions()
  return cli
    .option('address', {
      type: 'string',
      default: defaults.address,
      requiresArg: true,
      describe: 'Address to listen on; :: is every one, IPv6 too',
    })
    .option('http-port', {
      type: 'number',
      default: defaults.httpPort,
      requiresArg: true,
      describe: 'Port for firmware and iPXE; 0 takes any',
    })
    .option('tls-port', {
      type: 'number',
      default: defaults.tlsPort,
      requiresArg: true,
      describe: 'Port for agents; 0 takes any',
    })
    .option('admin-port', {
      type: 'number',
      requiresArg: true,
      describe: 'Port for administration from afar, by tokens of "admin add"; else there is none',
    })
}

/** How firmware finds its way here. */
function withPxeOptions<Options extends CommonOptions>(cli: Argv<Options>) {
  const defaults = defaultServeOptions()
  return cli
    .option('proxy-dhcp', {
      type: 'boolean',
      default: defaults.proxyDhcp,
      describe:
        'Tell PXE and UEFI HTTP firmware to boot from here, beside the DHCP server there is',
    })
    .option('tftp', {
      type: 'boolean',
      default: defaults.tftp,
      describe: 'Give PXE firmware its first program (iPXE) by TFTP',
    })
    .option('pxe-address', {
      type: 'string',
      array: true,
      default: [...defaults.pxeAddress],
      requiresArg: true,
      describe: 'Addresses of this machine for these two; else all there are',
    })
    .option('ipxe-folder', {
      type: 'string',
      default: defaults.ipxeFolder,
      requiresArg: true,
      describe: 'Folder with undionly.kpxe, snponly.efi, …',
    })
    .option('other-server', {
      type: 'string',
      array: true,
      default: [...defaults.otherServer],
      requiresArg: true,
      describe:
        'Servers with the same vDisks that iPXE asks when this one is silent, http://HOST:PORT',
    })
}

function withServeOptions(cli: Cli) {
  const defaults = defaultServeOptions()
  return withPxeOptions(withPorts(cli))
    .option('unknown-clients', {
      type: 'string',
      default: defaults.unknownClients,
      requiresArg: true,
      describe: 'Machines nobody decided about: refuse, approve (they wait for it), or vdisk:NAME',
    })
    .option('hostname-pattern', {
      type: 'string',
      default: defaults.hostnamePattern,
      requiresArg: true,
      describe: 'Host names of new clients, with {n} or {mac}',
    })
    .option('menu-seconds', {
      type: 'number',
      default: defaults.menuSeconds,
      requiresArg: true,
      describe: 'Countdown of the boot menu; 0 waits for ever',
    })
    .option('server-name', {
      type: 'string',
      default: defaults.serverName,
      requiresArg: true,
      describe: 'Name of this server on clients',
    })
    .option('kernel-parameters', {
      type: 'string',
      default: defaults.kernelParameters,
      requiresArg: true,
      describe: "Added to every client's kernel command line, such as console=ttyS1,115200",
    })
    .option('agent-image', {
      type: 'string',
      default: defaults.agentImage,
      requiresArg: true,
      describe: 'Initramfs with the agent, made by "npm run initramfs"',
    })
    .option('write-cache-quota', {
      type: 'string',
      default: defaults.writeCacheQuota,
      requiresArg: true,
      describe: 'Most of what one client writes that is kept here; none takes nothing',
    })
    .option('log-json', { type: 'boolean', default: false, describe: 'Log in JSON' })
    .option('log-level', {
      choices: LOG_LEVELS,
      default: 'info' as const,
      describe: 'Least that is logged',
    })
}

export function statusCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'status',
    'Show whether the server runs, and how it is',
    (cli) => withJson(cli).example('$0 status', '').example('$0 status --json', ''),
    async (options) => {
      const status = await adminClient(options).ask<StatusView>('GET', '/status')
      answer(terminal, options.json, status, formatStatus)
    },
  )
}

export function bootsCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'boots [client]',
    'Show the last boots with their timelines, of one client or of all',
    (cli) =>
      withJson(cli)
        .positional('client', { type: 'string', describe: 'Id, host name or MAC address' })
        .option('limit', { type: 'number', default: 20, requiresArg: true, describe: 'How many' })
        .example('$0 boots', '')
        .example('$0 boots client-1 --limit 3 --json', ''),
    async (options) => {
      const query = new URLSearchParams({ limit: String(options.limit) })
      if (options.client !== undefined) query.set('client', options.client)
      const boots = await adminClient(options).ask<BootView[]>('GET', `/boots?${query.toString()}`)
      answer(terminal, options.json, boots, formatBoots)
    },
  )
}

/** The second signal ends the process at once, should stopping take too long for somebody. */
function firstSignal(signals: readonly NodeJS.Signals[]): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of signals) process.once(signal, () => resolve(signal))
  })
}

/** An IPv6 address stands in brackets in a URL (RFC 3986 §3.2.2). */
function hostInUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

function formatStatus(status: StatusView): string {
  const { approved, pending, refused } = status.clientCounts
  return formatPairs([
    ['server', `${status.serverName}, bootwire ${status.version}`],
    [
      'running since',
      `${formatTime(status.startedAtMs)} (${formatDuration(status.uptimeSeconds)})`,
    ],
    ['listens on', `${status.address}, HTTP ${status.httpPort}, TLS ${status.tlsPort}`],
    ['key', status.pin],
    ['data', status.stateFolder],
    ['unknown clients', status.unknownClients],
    ['vDisks', String(status.vdiskCount)],
    ['clients', `${approved} approved, ${pending} pending, ${refused} refused`],
    ['connected', String(status.connectionCount)],
    ['memory', formatBytes(status.rssBytes)],
  ])
}

function formatBoots(boots: readonly BootView[]): string {
  if (boots.length === 0) return 'No boots yet\n'
  return formatTable(
    ['STARTED', 'CLIENT', 'VDISK', 'END', 'STREAMED', 'TIMELINE'],
    boots.map((boot) => [
      formatTime(boot.startedAtMs),
      boot.hostname,
      boot.vdisk ?? '-',
      formatEnd(boot),
      formatBytes(boot.wireBytes),
      formatTimeline(boot),
    ]),
  )
}
