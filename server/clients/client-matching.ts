/**
 * Which client in the database a machine is. Pure: the registry looks up candidates and asks here.
 *
 * MAC addresses, SMBIOS UUID and serial numbers are claims, and all of them are copied: adapters move from
 * machine to machine, virtual machines are cloned with their UUID, vendors print one serial on a series. So
 * they are weighed together. What agrees enough and contradicts nothing is the client; what agrees in part
 * may be it, with another network card or board, and a person has to say; all else is a new machine, since
 * being asked once more is better than giving one identity to two machines.
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

/** What each fact weighs: for the client when it agrees, against it when it differs. */
export const WEIGHTS = {
  /** An adapter, onboard as a rule. */
  mac: { same: 4, other: 0 },
  /** The board says so itself; clones say so, too. */
  uuid: { same: 4, other: -6 },
  /** Typed in by a vendor: missing, or wrong, more often than doubled. */
  systemSerial: { same: 3, other: -3 },
  boardSerial: { same: 3, other: -2 },
} as const

/** As much as a MAC or a UUID by itself. */
export const SCORE_SAME = 4

/** How much a machine is like a client. */
export interface Likeness {
  readonly score: number
  /** For people: `same UUID (+4)`. */
  readonly reasons: readonly string[]
  readonly hasSameMac: boolean
  /** A fact that one machine has once differs. */
  readonly contradicts: boolean
}

/** The machine is the client (`same`), or may be it and somebody has to say (`unsure`). */
export interface ClientMatch {
  readonly kind: 'same' | 'unsure'
  readonly client: ClientRecord
  readonly likeness: Likeness
}

const FACT_NAMES = {
  uuid: 'UUID',
  systemSerial: 'system serial',
  boardSerial: 'board serial',
} as const

export function compareFacts(known: MachineFacts, reported: MachineFacts): Likeness {
  const reasons: string[] = []
  let score = 0
  const count = (points: number, text: string) => {
    score += points
    reasons.push(`${text} (${points > 0 ? '+' : ''}${points})`)
  }
  const mac = reported.macs.find((it) => known.macs.includes(it))
  if (mac !== undefined) count(WEIGHTS.mac.same, `same MAC ${mac}`)
  else if (reported.macs.length > 0 && known.macs.length > 0) count(WEIGHTS.mac.other, 'other MAC')
  for (const name of ['uuid', 'systemSerial', 'boardSerial'] as const) {
    const [before, now] = [known[name], reported[name]]
    if (before === undefined || now === undefined) continue
    if (before === now) count(WEIGHTS[name].same, `same ${FACT_NAMES[name]}`)
    else count(WEIGHTS[name].other, `other ${FACT_NAMES[name]}`)
  }
  return {
    score,
    reasons,
    hasSameMac: mac !== undefined,
    contradicts: differs(known.uuid, reported.uuid),
  }
}

/**
 * Chooses among the clients that have one of the machine's MACs, in the order of the MACs, and the
 * one that has its UUID. Undefined: the machine is new.
 *
 * A machine that may be a client which runs right now is a clone of it, and new.
 */
export function chooseClient(
  facts: MachineFacts,
  candidates: readonly ClientRecord[],
  isRunning: (clientId: string) => boolean,
): ClientMatch | undefined {
  const matches = candidates
    .map((client) => matchOf(client, facts))
    .filter((match) => match !== undefined)
    .toSorted((a, b) => b.likeness.score - a.likeness.score)
  return (
    matches.find(({ kind }) => kind === 'same') ??
    matches.find(({ client }) => !isRunning(client.id))
  )
}

function matchOf(client: ClientRecord, facts: MachineFacts): ClientMatch | undefined {
  const likeness = compareFacts(client.facts, facts)
  const { score, hasSameMac, contradicts } = likeness
  if (score <= 0) return undefined
  // Of a machine that shows no MAC at all, its UUID is all there is.
  const isSeen = hasSameMac || facts.macs.length === 0 || client.facts.macs.length === 0
  const isSame = score >= SCORE_SAME && isSeen && !contradicts
  return { kind: isSame ? 'same' : 'unsure', client, likeness }
}

/**
 * Returns what is known of the machine after it reported `reported`: newer facts win, and earlier
 * MACs stay behind the reported ones, since firmware knows only the one it boots from.
 */
export function mergeFacts(known: MachineFacts, reported: MachineFacts): MachineFacts {
  const macs = [...new Set([...reported.macs, ...known.macs])].slice(0, MACS_MAX)
  return { ...known, ...reported, macs }
}

function differs(left: string | undefined, right: string | undefined): boolean {
  return left !== undefined && right !== undefined && left !== right
}
