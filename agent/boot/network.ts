/**
 * The network card the machine boots over. A script of the initramfs brings it up while the agent
 * starts (`initramfs/network.sh`) and says in `network.env` how far it is.
 */
import { BootwireError } from '#shared/errors.ts'
import type { NetworkFacts } from '../diagnosis/network-probes.ts'
import type { RunFolder } from './run-folder.ts'
import { parseAssignments } from './shell-assignments.ts'

export interface NetworkUp {
  readonly interfaceName: string
  /** With its prefix length, as `10.0.2.15/24`. */
  readonly address: string
}

export const NETWORK_FILE = 'network.env'

/**
 * Returns when the card has an address. `onTrouble` is called with what keeps it from getting one,
 * each time that changes; the script goes on trying.
 */
export async function networkUp(
  runFolder: RunFolder,
  onTrouble: (error: BootwireError) => void,
  signal: AbortSignal,
): Promise<NetworkUp> {
  let lastState = ''
  return await runFolder.until(() => {
    const values = parseAssignments(runFolder.read(NETWORK_FILE) ?? '')
    const state = values.get('STATE') ?? ''
    const interfaceName = values.get('INTERFACE') ?? ''
    if (state === 'up') return { interfaceName, address: values.get('ADDRESS') ?? '' }
    if (state !== lastState) {
      lastState = state
      const trouble = troubleOf(state, interfaceName)
      if (trouble !== undefined) onTrouble(trouble)
    }
    return undefined
  }, signal)
}

/** What is known of the network so far, for the technician's screen. */
export function networkFacts(runFolder: RunFolder): NetworkFacts {
  const values = parseAssignments(runFolder.read(NETWORK_FILE) ?? '')
  const value = (name: string) => values.get(name) ?? ''
  return {
    state: value('STATE'),
    interfaceName: value('INTERFACE'),
    address: value('ADDRESS'),
    gateway: value('GATEWAY'),
    dnsServers: value('DNS')
      .split(' ')
      .filter((server) => server !== ''),
  }
}

/** The card's name as far as it is known; empty when it is not. */
export function bootInterface(runFolder: RunFolder): string {
  return parseAssignments(runFolder.read(NETWORK_FILE) ?? '').get('INTERFACE') ?? ''
}

/** The card and its IPv4 address without the prefix length; undefined before it has one. */
export function bootAddress(
  runFolder: RunFolder,
): { readonly interfaceName: string; readonly address: string } | undefined {
  const values = parseAssignments(runFolder.read(NETWORK_FILE) ?? '')
  const [address = ''] = (values.get('ADDRESS') ?? '').split('/')
  const interfaceName = values.get('INTERFACE') ?? ''
  return address === '' || interfaceName === '' ? undefined : { interfaceName, address }
}

function troubleOf(state: string, interfaceName: string): BootwireError | undefined {
  switch (state) {
    case 'no-card':
      return new BootwireError(
        'NO_NETWORK',
        'Cannot find a network card: the kernel has no driver for any there is',
      )
    case 'no-link':
      return new BootwireError('NO_NETWORK', `Cannot use ${interfaceName}: it has no link`)
    case 'no-address':
      return new BootwireError('NO_ADDRESS', `Cannot get an address on ${interfaceName} by DHCP`)
    case 'no-agent-network':
      return new BootwireError(
        'NO_NETWORK',
        `Cannot lead ${interfaceName} to the agent: /run/bootwire/network.log tells why`,
      )
    default:
      return undefined // still at it
  }
}
