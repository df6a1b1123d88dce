/** Why a machine cannot boot yet, in the words of its screen. Pure. */
import { BootwireError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { nameOf } from '#shared/tls/pinned-tls.ts'
import type { Identity } from '#shared/wire/messages.ts'
import type { WaitAdvice, WaitState } from '../screen/wait-frame.ts'
import type { ConnectionState } from '../session/agent-session.ts'

/** Returns undefined when the server offers something to boot. */
export function waitReason(
  facts: MachineFacts,
  connection: ConnectionState,
  identity: Identity | undefined,
  serverPins: ReadonlySet<string>,
): WaitState | undefined {
  const address = nameOf(connection.server)
  const isConnected = connection.isUp
  const reason =
    isConnected && identity !== undefined ? reasonOf(identity) : unreached(address, connection)
  if (reason === undefined) return undefined
  const code = isConnected ? identity?.enrolCode : undefined
  return {
    facts,
    ...(code !== undefined && { enrol: { code, serverPins: [...serverPins] } }),
    ...(identity && { hostname: identity.hostname }),
    server: { address, isConnected, ...(identity && { name: identity.serverName }) },
    ...reason,
  }
}

type Reason = Pick<WaitState, 'matter' | 'advice'>

function unreached(address: string, { error }: ConnectionState): Reason {
  return { matter: error ?? `Connecting to ${address}` }
}

function reasonOf({
  state,
  hostname,
  offers,
  enrolCode,
  note,
  withheld = 0,
}: Identity): Reason | undefined {
  if (state === 'refused') {
    return { matter: new BootwireError('CLIENT_REFUSED', 'This server refused this machine') }
  }
  if (state === 'pending') {
    return {
      matter: new BootwireError(
        'CLIENT_PENDING',
        note === undefined
          ? 'This machine waits to be approved'
          : `This machine waits to be approved. ${note}`,
      ),
      advice: enrolCode === undefined ? onServer('approve', hostname) : comparing(enrolCode),
    }
  }
  if (offers.length > 0) return undefined
  if (withheld > 0) {
    const matter = new BootwireError(
      'NOT_AUTHENTICATED',
      'The vDisk for this machine is only given to machines that prove who they are',
    )
    return { matter, ...(enrolCode !== undefined && { advice: comparing(enrolCode) }) }
  }
  return {
    matter: new BootwireError('NOTHING_ASSIGNED', 'There is no vDisk for this machine'),
    advice: onServer('assign', hostname),
  }
}

/** The code is that of this machine's key: an administrator who sees the same one vouches for the right one. */
function comparing(enrolCode: string): WaitAdvice {
  return {
    text: `This machine shows the code ${enrolCode}. On the server, compare and admit it by the code:`,
    command: `bootwire client approve ${enrolCode} --vdisk VDISK`,
  }
}

function onServer(verb: 'approve' | 'assign', client: string): WaitAdvice {
  return verb === 'approve'
    ? {
        text: 'Compare the MAC above with the machine, and on the server:',
        command: `bootwire client approve ${client} --vdisk VDISK`,
      }
    : {
        text: 'Give it one, on the server ("bootwire vdisk ls" lists them):',
        command: `bootwire client assign ${client} VDISK`,
      }
}
