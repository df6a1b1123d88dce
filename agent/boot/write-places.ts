/**
 * Decides, before a boot, where what this machine writes will lie and how much memory goes to what; and
 * says when it cannot work. Pure.
 */
import { BootwireError } from '#shared/errors.ts'
import { formatBytes, MiB } from '#shared/units.ts'
import type { WriteCacheSettings } from '#shared/wire/messages.ts'
import { RAM_TIER_BYTES_MIN } from '../ram-tier/ram-tier.ts'

export interface MachineRoom {
  /** Memory that could be given out now. */
  readonly memoryBytes: number
  /** What of the RAM cache was asked for. */
  readonly ramTierBytes: number
  /** Free room of the local disk's write area, with what this boot's or this vDisk's cache has; absent without one. */
  readonly areaBytes?: number
  /** Whether the server takes something. */
  readonly hasServer: boolean
}

export interface WritePlaces {
  readonly ramTierBytes: number
  /** Most bytes of what is written that may lie in memory. */
  readonly ramBytes: number
  /** Most bytes of it on the local disk; 0 for none. */
  readonly diskBytes: number
  /** Whether what lies on the local disk is found by the next boot. */
  readonly isKept: boolean
  /** How the server takes the rest; absent where it takes nothing. */
  readonly server?: ServerPlace | undefined
}

export interface ServerPlace {
  /** Whether the next boot finds it there. */
  readonly isKept: boolean
  /** Of the room that there is here, so much may be used before the server is. */
  readonly beginShare: number
}

/** What a small system without a desktop needs beside us, lest it is shot at its first command. */
export const SYSTEM_BYTES_MIN: number = 128 * MiB

/** Of what is free: the rest is for the system and what it reads. */
const RAM_SHARE = 1 / 2
/** The RAM cache only saves time: it shrinks before anything else does. */
const RAM_TIER_SHARE_MAX = 1 / 8
/** Less in memory, and no other place, would be full before a login. */
const RAM_BYTES_MIN: number = 32 * MiB

/** The server is asked for room before there is none, as it takes its time. */
const AUTO_BEGIN_SHARE = 0.75
/** Half is for what is being written, the other half saves reading it back. */
const SERVER_BEGIN_SHARE = 0.5

const NO_LIMIT = Number.MAX_SAFE_INTEGER

/** @throws {BootwireError} CLIENT_MEMORY, WRITE_PLACE_MISSING */
export function chooseWritePlaces(
  { place, isKept, limitBytes }: WriteCacheSettings,
  { memoryBytes, ramTierBytes: wantedBytes, areaBytes, hasServer }: MachineRoom,
): WritePlaces {
  const limit = limitBytes === 0 ? NO_LIMIT : limitBytes
  const usableBytes = memoryBytes - SYSTEM_BYTES_MIN
  const ramTierBytes = Math.max(
    RAM_TIER_BYTES_MIN,
    Math.min(wantedBytes, Math.floor(memoryBytes * RAM_TIER_SHARE_MAX)),
  )
  const ramBytes = Math.floor(Math.min(limit, (usableBytes - ramTierBytes) * RAM_SHARE))
  if (usableBytes < ramTierBytes) throw tooSmall(memoryBytes, ramTierBytes)
  const bufferBytes = Math.max(RAM_BYTES_MIN, Math.floor((usableBytes - ramTierBytes) * RAM_SHARE))
  if (place === 'disk') {
    if (areaBytes === undefined) throw noArea()
    const diskBytes = Math.min(limit, areaBytes)
    return { ramTierBytes, ramBytes: 0, diskBytes, isKept }
  }
  if (place === 'server') {
    if (!hasServer) throw noServer()
    const server = { isKept, beginShare: SERVER_BEGIN_SHARE }
    return { ramTierBytes, ramBytes: bufferBytes, diskBytes: 0, isKept: false, server }
  }
  const diskBytes = place === 'auto' ? Math.min(limit - ramBytes, areaBytes ?? 0) : 0
  if (ramBytes + diskBytes < Math.min(limit, RAM_BYTES_MIN)) {
    throw tooSmall(memoryBytes, ramTierBytes + 2 * RAM_BYTES_MIN)
  }
  const isOpenEnded = place === 'auto' && hasServer && ramBytes + diskBytes < limit
  return {
    ramTierBytes,
    ramBytes,
    diskBytes,
    isKept: false,
    ...(isOpenEnded && { server: { isKept: false, beginShare: AUTO_BEGIN_SHARE } }),
  }
}

/** One line for the screen: what goes where. */
export function describePlaces(
  { ramTierBytes, ramBytes, diskBytes, isKept, server }: WritePlaces,
  memoryBytes: number,
): string {
  const places = [
    ...(ramBytes > 0 ? [`${formatBytes(ramBytes)} in memory`] : []),
    ...(diskBytes > 0 ? [`${formatBytes(diskBytes)} on the local disk`] : []),
    ...(server === undefined ? [] : ['the server']),
  ]
  const isFoundAgain = isKept || server?.isKept === true
  const kept = isFoundAgain ? ', kept for the next boot' : ''
  return `${formatBytes(memoryBytes)} of memory are free: ${formatBytes(ramTierBytes)} to read ahead; what is written has ${places.join(', then ')}${kept}`
}

function tooSmall(memoryBytes: number, neededBytes: number): BootwireError {
  return new BootwireError(
    'CLIENT_MEMORY',
    `Cannot boot: ${formatBytes(memoryBytes)} of memory are free, and at least ${formatBytes(SYSTEM_BYTES_MIN + neededBytes)} are needed for the system, what it reads and what it writes`,
  )
}

function noServer(): BootwireError {
  return new BootwireError(
    'WRITE_PLACE_MISSING',
    'Cannot boot: what this machine writes shall lie on the server, and this one takes nothing',
  )
}

function noArea(): BootwireError {
  return new BootwireError(
    'WRITE_PLACE_MISSING',
    'Cannot boot: what this machine writes shall lie on its local disk, and no disk of it has a write area',
  )
}
