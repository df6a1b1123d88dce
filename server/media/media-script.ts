/** The script of a bootstrap medium (`ipxe-scripts/media.ipxe`). Pure but for reading the template once. */
import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { HTTP_PORT_DEFAULT } from '#server/boot/boot-paths.ts'
import { BootwireError } from '#shared/errors.ts'

export interface MediaOptions {
  /** Servers to ask one after the other, HOST or HOST:PORT of HTTP; may be empty. */
  readonly servers: readonly string[]
  /** What the agent trusts, whatever a boot script says: SHA-256 of the server's key. */
  readonly pin?: string | undefined
  readonly joinToken?: string | undefined
  /** `10.0.0.5/24`; DHCP is asked without one. */
  readonly address?: string | undefined
  readonly gateway?: string | undefined
  readonly dns?: string | undefined
  readonly vlan?: number | undefined
}

const VLAN_MAX = 4094

const SERVER = /^(?:\[[0-9A-Fa-f:]{2,39}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::[0-9]{1,5})?$/
const PIN = /^[A-Za-z0-9_-]{43}$/
const JOIN_TOKEN = /^bwj_[A-Za-z0-9_-]{43}$/

const TEMPLATE = readFileSync(new URL('../../ipxe-scripts/media.ipxe', import.meta.url), 'utf8')

/** @throws {BootwireError} INVALID_ARGUMENT, naming the option */
export function renderMediaScript(options: MediaOptions): string {
  check(options)
  const { servers, pin, joinToken, vlan } = options
  const parameters = [
    ...(pin === undefined ? [] : [`bootwire.pin=${pin}`]),
    ...(joinToken === undefined ? [] : [`bootwire.join=${joinToken}`]),
    ...(vlan === undefined ? [] : [`vlan=${vlan}`]),
  ]
  const values: Readonly<Record<string, string>> = {
    kernelParameters: parameters.join(' '),
    networkCommands: networkCommands(options).join('\n'),
    tryServers: servers
      .map((server) => {
        const url = `http://${withPort(server)}/boot.ipxe`
        return `chain --replace ${url} || echo bootwire: no answer from ${server}`
      })
      .join('\n'),
    httpPort: String(HTTP_PORT_DEFAULT),
    asked: servers.length === 0 ? 'no server, as this medium names none' : servers.join(', '),
    andVlan: vlan === undefined ? '' : `, VLAN ${vlan}`,
  }
  return TEMPLATE.replaceAll(/\{\{([A-Za-z]+)\}\}/g, (_, key: string) => values[key] ?? '')
}

/** Cards are tried in turn until one has an address. */
function networkCommands({ address, gateway, dns, vlan }: MediaOptions): string[] {
  if (vlan === undefined && address === undefined) return ['ifconf -c dhcp || goto nolink']
  const card = vlan === undefined ? 'net0' : `net0-${vlan}`
  const vlanCommands =
    vlan === undefined
      ? []
      : [
          'ifopen net0 ||',
          `isset \${${card}/mac} || vcreate --tag ${vlan} net0 || echo bootwire: this iPXE knows no VLANs`,
        ]
  if (address === undefined) return [...vlanCommands, `ifconf -c dhcp ${card} || goto nolink`]
  const [ip = '', prefix = ''] = address.split('/')
  return [
    ...vlanCommands,
    `set ${card}/ip ${ip}`,
    `set ${card}/netmask ${netmaskOf(Number(prefix))}`,
    ...(gateway === undefined ? [] : [`set ${card}/gateway ${gateway}`]),
    ...(dns === undefined ? [] : [`set ${card}/dns ${dns}`]),
    `ifopen ${card} || goto nolink`,
    `iflinkwait ${card} || goto nolink`,
  ]
}

function netmaskOf(prefix: number): string {
  const bits = prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')
}

function withPort(server: string): string {
  return /:[0-9]+$/.test(server) ? server : `${server}:${HTTP_PORT_DEFAULT}`
}

function check({ servers, pin, joinToken, address, gateway, dns, vlan }: MediaOptions): void {
  for (const server of servers) expect(SERVER.test(server), '--at', server, 'HOST or HOST:PORT')
  if (pin !== undefined) expect(PIN.test(pin), '--trust', pin, '43 characters of base64url')
  if (joinToken !== undefined) {
    expect(JOIN_TOKEN.test(joinToken), '--join-token', '…', 'a token of "bootwire join token"')
  }
  if (address !== undefined) {
    const [ip = '', prefix = ''] = address.split('/')
    const isGood = isIPv4(ip) && /^[0-9]{1,2}$/.test(prefix) && Number(prefix) <= 32
    expect(isGood, '--address', address, 'an IPv4 address and a prefix length, as 10.0.0.5/24')
  }
  for (const [option, value] of [
    ['--gateway', gateway],
    ['--dns', dns],
  ] as const) {
    if (value === undefined) continue
    expect(isIPv4(value), option, value, 'an IPv4 address')
    expect(address !== undefined, option, value, 'it beside --address; DHCP gives it otherwise')
  }
  if (vlan !== undefined) {
    const isGood = Number.isInteger(vlan) && vlan >= 1 && vlan <= VLAN_MAX
    expect(isGood, '--vlan', String(vlan), `a number from 1 to ${VLAN_MAX}`)
  }
}

function expect(isGood: boolean, option: string, value: string, expected: string): void {
  if (isGood) return
  throw new BootwireError('INVALID_ARGUMENT', `Cannot use ${option} ${value}: expected ${expected}`)
}
