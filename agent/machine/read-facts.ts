/** Collects what this machine says of itself: addresses of its network cards, and SMBIOS. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { isPlaceholder, type MachineFacts } from '#shared/identity/machine-facts.ts'
import { MACS_MAX } from '#shared/wire/limits.ts'

/** As in machine-facts.ts; vendors have been seen to fill whole pages. */
const FACT_LENGTH_MAX = 128

const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/
const NO_MAC = '00:00:00:00:00:00'

/** `bootInterface` is the network card the machine booted from; `sysFolder` is only given by tests. */
export function readMachineFacts(bootInterface: string, sysFolder = '/sys'): MachineFacts {
  const dmi = (name: string) => readFact(join(sysFolder, 'class/dmi/id', name))
  const uuid = dmi('product_uuid')?.toLowerCase()
  const systemSerial = dmi('product_serial')
  const boardSerial = dmi('board_serial')
  const manufacturer = dmi('sys_vendor')
  const product = dmi('product_name')
  return {
    macs: readMacs(bootInterface, join(sysFolder, 'class/net')),
    memoryBytes: totalmem(),
    ...(uuid !== undefined && { uuid }),
    ...(systemSerial !== undefined && { systemSerial }),
    ...(boardSerial !== undefined && { boardSerial }),
    ...(manufacturer !== undefined && { manufacturer }),
    ...(product !== undefined && { product }),
  }
}

/** Returns undefined when there is no such card, or it has no MAC. */
export function macOfCard(interfaceName: string, sysFolder = '/sys'): string | undefined {
  const text = readText(join(sysFolder, 'class/net', interfaceName, 'address'))?.toLowerCase() ?? ''
  return MAC.test(text) ? text : undefined
}

/** The card the machine booted from first, then the others of its own, in the order of their names. */
function readMacs(bootInterface: string, folder: string): string[] {
  const names = namesIn(folder).filter((name) => isCard(join(folder, name)))
  const ordered = names.toSorted((a, b) => rank(a, bootInterface) - rank(b, bootInterface))
  const macs = ordered.map((name) => readText(join(folder, name, 'address'))?.toLowerCase() ?? '')
  return [...new Set(macs)].filter((mac) => MAC.test(mac) && mac !== NO_MAC).slice(0, MACS_MAX)
}

function rank(name: string, bootInterface: string): number {
  return name === bootInterface ? 0 : 1
}

/** Bridges, tunnels and the loopback have no device behind them. */
function isCard(path: string): boolean {
  return statSync(join(path, 'device'), { throwIfNoEntry: false }) !== undefined
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return [] // a machine without network cards
  }
}

function readFact(path: string): string | undefined {
  // Vendors put anything into these strings; a screen and a log want printable text.
  const value = readText(path)
    ?.replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, FACT_LENGTH_MAX)
  return value === undefined || isPlaceholder(value) ? undefined : value
}

/** Absent on machines without SMBIOS, unreadable for all but root. */
function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
