/** What `bootwire serve` can be told, checked before anything is opened. */
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { parseSize } from '#shared/amounts.ts'
import { BootwireError } from '#shared/errors.ts'
import { assertKernelParameters } from './boot/boot-script.ts'
import { assertHostnamePattern, DEFAULT_HOSTNAME_PATTERN } from './clients/hostname-pattern.ts'
import { parseUnknownPolicy, type UnknownPolicy } from './clients/unknown-policy.ts'
import { defaultStateFolder } from './state/state-folder.ts'

export interface ServeConfig {
  readonly stateFolder: string
  /** Address to listen on; `::` is every address, IPv4 included. */
  readonly address: string
  /** 0 takes any free port. */
  readonly httpPort: number
  readonly tlsPort: number
  /** For administration from afar; absent to have none. */
  readonly adminPort?: number
  readonly agentImagePath: string
  readonly unknownClients: UnknownPolicy
  readonly hostnamePattern: string
  readonly menuSeconds: number
  /** Shown on clients, so that a person knows which server answered. */
  readonly serverName: string
  /** Added to every client's kernel command line: other consoles, work-arounds for hardware. */
  readonly kernelParameters: string
  /** Most bytes of what one client writes that this server keeps. */
  readonly writeQuotaBytes: number
}

/** The values as they stand on the command line. */
export interface ServeOptions {
  readonly state: string
  readonly address: string
  readonly httpPort: number
  readonly tlsPort: number
  readonly adminPort?: number | undefined
  readonly agentImage: string
  readonly unknownClients: string
  readonly hostnamePattern: string
  readonly menuSeconds: number
  readonly serverName: string
  readonly kernelParameters: string
  readonly writeCacheQuota: string
}

/** The agent's image as `npm run initramfs` leaves it in the checkout. */
const BUILT_AGENT_IMAGE = join(import.meta.dirname, '..', '.cache', 'initramfs', 'agent.img')

/** The system chooses one that is free, for each listener another. */
const ANY_PORT = 0

const MENU_SECONDS_MAX = 3600
const SERVER_NAME_LENGTH_MAX = 200

export function defaultServeOptions(): ServeOptions {
  return {
    state: defaultStateFolder(),
    address: '0.0.0.0',
    httpPort: 8080,
    tlsPort: 8443,
    agentImage: BUILT_AGENT_IMAGE,
    unknownClients: 'approve',
    hostnamePattern: DEFAULT_HOSTNAME_PATTERN,
    menuSeconds: 10,
    serverName: hostname(),
    kernelParameters: '',
    writeCacheQuota: '8GiB',
  }
}

/** @throws {BootwireError} INVALID_ARGUMENT, naming the option */
export function serveConfig(options: ServeOptions): ServeConfig {
  assertHostnamePattern(options.hostnamePattern)
  assertKernelParameters(options.kernelParameters)
  if (options.httpPort === options.tlsPort && options.httpPort !== ANY_PORT) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use port ${options.httpPort} for both --http-port and --tls-port: expected two`,
    )
  }
  return {
    stateFolder: resolve(options.state),
    address: options.address,
    httpPort: port('--http-port', options.httpPort),
    tlsPort: port('--tls-port', options.tlsPort),
    ...(options.adminPort !== undefined && {
      adminPort: port('--admin-port', options.adminPort),
    }),
    agentImagePath: resolve(options.agentImage),
    unknownClients: parseUnknownPolicy(options.unknownClients),
    hostnamePattern: options.hostnamePattern,
    menuSeconds: wholeNumber('--menu-seconds', options.menuSeconds, MENU_SECONDS_MAX),
    serverName: options.serverName.slice(0, SERVER_NAME_LENGTH_MAX),
    kernelParameters: options.kernelParameters,
    writeQuotaBytes: parseSize(options.writeCacheQuota),
  }
}

function port(option: string, value: number): number {
  return wholeNumber(option, value, 65_535)
}

function wholeNumber(option: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use ${option} ${value}: expected a whole number from 0 to ${max}`,
  )
}
