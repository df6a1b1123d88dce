/**
 * Which client in the database a machine is. Pure: the registry looks up candidates and asks here.
 *
 * The MAC address counts first, then the SMBIOS UUID. Both are claims and both are copied: adapters
 * move from machine to machine, virtual machines are cloned with their UUID. So a known MAC on a
 * machine that reports another UUID is another machine, and a known UUID behind unknown MACs is
 * another one if the client is running right now. In doubt a machine is new: being asked about it
 * once more is better than giving one identity to two machines.
 */

import type { BootFacts } from '#server/boot/boot-plan.ts'
import type { ClientRecord } from '#server/state/records.ts'
import { isPlaceholder, type MachineFacts } from '#shared/identity/machine-facts.ts'
import { MACS_MAX } from '#shared/wire/limits.ts'

const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/
const FACT_LENGTH_MAX = 128

/** Returns the facts without what identifies nobody: placeholders, and MACs named twice. */
export function usableFacts(facts: MachineFacts): MachineFacts {
  const { uuid, systemSerial, boardSerial, macs, ...rest } = facts
  return {
    ...rest,
    macs: [...new Set(macs)].filter((mac) => !isPlaceholder(mac.replaceAll(':', ''))),
    ...(uuid !== undefined && !isPlaceholder(uuid) && { uuid: uuid.toLowerCase() }),
    ...(systemSerial !== undefined && !isPlaceholder(systemSerial) && { systemSerial }),
    ...(boardSerial !== undefined && !isPlaceholder(boardSerial) && { boardSerial }),
  }
}

/** Returns what iPXE reported in the form the agent reports it in; what is no MAC is left out. */
export function factsFromBoot({ mac, uuid, serial }: BootFacts): MachineFacts {
  const normalized = mac === undefined ? undefined : normalizeMac(mac)
  return usableFacts({
    macs: normalized === undefined ? [] : [normalized],
    ...(uuid !== undefined && uuid.length <= FACT_LENGTH_MAX && { uuid }),
    ...(serial !== undefined && serial.length <= FACT_LENGTH_MAX && { systemSerial: serial }),
  })
}

/** Returns the MAC in lower case with colons, or undefined when the text is none. */
export function normalizeMac(text: string): string | undefined {
  const mac = text.trim().toLowerCase().replaceAll('-', ':')
  return MAC.test(mac) ? mac : undefined
}

/** True when nothing in the facts tells this machine from others. */
export function isAnonymous(facts: MachineFacts): boolean {
  return facts.macs.length === 0 && facts.uuid === undefined
}

/**
 * Chooses among the clients that have one of the machine's MACs, in the order of the MACs, and the
 * one that has its UUID. Undefined: the machine is new.
 */
export function chooseClient(
  facts: MachineFacts,
  byMac: readonly ClientRecord[],
  byUuid: ClientRecord | undefined,
  isRunning: (clientId: string) => boolean,
): ClientRecord | undefined {
  const same = byMac.find((client) => !contradicts(client.facts.uuid, facts.uuid))
  if (same !== undefined) return same
  return byUuid !== undefined && !isRunning(byUuid.id) ? byUuid : undefined
}

/**
 * Returns what is known of the machine after it reported `reported`: newer facts win, and earlier
 * MACs stay behind the reported ones, since firmware knows only the one it boots from.
 */
export function mergeFacts(known: MachineFacts, reported: MachineFacts): MachineFacts {
  const macs = [...new Set([...reported.macs, ...known.macs])].slice(0, MACS_MAX)
  return { ...known, ...reported, macs }
}

function contradicts(left: string | undefined, right: string | undefined): boolean {
  return left !== undefined && right !== undefined && left !== right
}
