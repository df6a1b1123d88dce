/** What `bootwire serve` can be told, checked before anything is opened. */
import { existsSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { parseSize } from '#shared/amounts.ts'
import { BootwireError } from '#shared/errors.ts'
import { HTTP_PORT_DEFAULT } from './boot/boot-paths.ts'
import { assertKernelParameters } from './boot/boot-script.ts'
import { assertHostnamePattern, DEFAULT_HOSTNAME_PATTERN } from './clients/hostname-pattern.ts'
import { parseUnknownPolicy, type UnknownPolicy } from './clients/unknown-policy.ts'
import { IPXE_FOLDER, IPXE_FOLDERS } from './pxe/ipxe-folder.ts'
import type { PxeSettings } from './pxe/pxe-services.ts'
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
  /** How firmware finds its way here; both services off is for networks whose DHCP server knows it. */
  readonly pxe: PxeSettings
  /** Folder with the programs that firmware loads. */
  readonly ipxeFolder: string
  /** Other servers with the same vDisks, as `http://HOST:PORT`. */
  readonly otherServers: readonly string[]
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
  readonly proxyDhcp: boolean
  readonly tftp: boolean
  readonly pxeAddress: readonly string[]
  readonly ipxeFolder: string
  readonly otherServer: readonly string[]
}

/** The agent's image as `npm run initramfs` leaves it in the checkout. */
const BUILT_AGENT_IMAGE = join(import.meta.dirname, '..', '.cache', 'initramfs', 'agent.img')

/** The system chooses one that is free, for each listener another. */
const ANY_PORT = 0

const ANY_ADDRESS = '0.0.0.0'

const SERVER_URL =
  /^http:\/\/(?:\[[0-9A-Fa-f:]{2,39}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::[0-9]{1,5})?\/?$/

const MENU_SECONDS_MAX = 3600
const SERVER_NAME_LENGTH_MAX = 200

export function defaultServeOptions(): ServeOptions {
  return {
    state: defaultStateFolder(),
    address: '0.0.0.0',
    httpPort: HTTP_PORT_DEFAULT,
    tlsPort: 8443,
    agentImage: BUILT_AGENT_IMAGE,
    unknownClients: 'approve',
    hostnamePattern: DEFAULT_HOSTNAME_PATTERN,
    menuSeconds: 10,
    serverName: hostname(),
    kernelParameters: '',
    writeCacheQuota: '8GiB',
    proxyDhcp: false,
    tftp: false,
    pxeAddress: [],
    ipxeFolder: IPXE_FOLDERS.find((folder) => existsSync(folder)) ?? IPXE_FOLDER,
    otherServer: [],
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
    pxe: {
      hasProxyDhcp: options.proxyDhcp,
      hasTftp: options.tftp,
      addresses: pxeAddresses(options),
    },
    ipxeFolder: resolve(options.ipxeFolder),
    otherServers: options.otherServer.map(serverUrl),
  }
}

/** The address that everything else listens on, when it is one. */
function pxeAddresses({ address, pxeAddress }: ServeOptions): readonly string[] {
  for (const named of pxeAddress) {
    if (isIPv4(named)) continue
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use --pxe-address ${named}: expected an IPv4 address of this machine`,
    )
  }
  if (pxeAddress.length > 0) return pxeAddress
  return isIPv4(address) && address !== ANY_ADDRESS ? [address] : []
}

/** Without a path and without a `/` at the end: it goes into boot scripts. */
function serverUrl(text: string): string {
  if (SERVER_URL.test(text)) return text.replace(/\/$/, '')
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use --other-server ${text}: expected http://HOST:PORT`,
  )
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
