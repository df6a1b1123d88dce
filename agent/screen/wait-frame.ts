/**
 * What a client shows while it waits for somebody: who it is, which server it spoke to, what is the
 * matter and what to do, in this order, so that one photograph of the screen says it all. Pure.
 */
import { BootwireError, describeError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import type { EnrolCode } from './code-frame.ts'
import { COLUMNS, type Frame, type Row } from './frame.ts'
import { EMPTY_ROW, indent, masthead, RULE_ROW, TEXT_COLUMNS } from './masthead.ts'
import { cut, fit, wrapAtMost } from './text-layout.ts'
import { formatWaited } from './waited-time.ts'

/** Rows that texts of any length are cut to; with these, every row of the frame fits on a screen. */
const MATTER_ROWS_MAX = 4
const ADVICE_ROWS_MAX = 3

/** MAC addresses shown; the one the machine booted from is the first. */
const MACS_SHOWN = 3

const LABEL_COLUMNS = 10
const COMMAND_INDENT = 4

export interface WaitState {
  readonly facts: MachineFacts
  /** The name the server gave, once it did. */
  readonly hostname?: string
  readonly server: WaitServer
  /** The reason to wait: an error, or a sentence while everything is well. */
  readonly matter: unknown
  /** What somebody must do; without it an error's own words are shown. */
  readonly advice?: WaitAdvice
  /** Shown on a key, while nobody has vouched for this machine's key. */
  readonly enrol?: EnrolCode
}

export interface WaitServer {
  /** Host or address, and port. */
  readonly address: string
  /** The name it gives itself, once it was heard. */
  readonly name?: string
  readonly isConnected: boolean
}

export interface WaitAdvice {
  readonly text: string
  /** Shown on a row of its own, to be typed as it stands. */
  readonly command?: string
}

export function waitFrame(state: WaitState, waitedMs: number): Frame {
  return [
    ...masthead(state.hostname, state.server.name),
    EMPTY_ROW,
    ...machineRows(state),
    EMPTY_ROW,
    ...matterRows(state.matter),
    EMPTY_ROW,
    ...adviceRows(state),
    RULE_ROW,
    { text: indent(`Waiting for ${formatWaited(waitedMs)}. Goes on by itself. ${keysOf(state)}`) },
  ]
}

function keysOf({ enrol }: WaitState): string {
  return enrol === undefined ? 'T: technician' : 'Q: QR code. T: technician'
}

function machineRows({ facts, hostname, server }: WaitState): Row[] {
  const pairs: [string, string | undefined][] = [
    ['Name', hostname],
    ['MAC', formatMacs(facts.macs)],
    ['UUID', facts.uuid],
    ['Serial', facts.systemSerial ?? facts.boardSerial],
    ['Product', formatProduct(facts)],
    ['Server', formatServer(server)],
  ]
  return pairs.flatMap(([label, value]) =>
    value === undefined || value === ''
      ? []
      : [{ text: indent(`${label.padEnd(LABEL_COLUMNS)}${cutValue(value)}`) }],
  )
}

function cutValue(value: string): string {
  return cut(value, TEXT_COLUMNS - LABEL_COLUMNS)
}

function formatMacs(macs: readonly string[]): string {
  const shown = macs.slice(0, MACS_SHOWN).join(', ')
  const rest = macs.length - MACS_SHOWN
  if (macs.length === 0) return 'none found'
  return rest > 0 ? `${shown} (${rest} more)` : shown
}

function formatProduct({ manufacturer, product }: MachineFacts): string {
  if (manufacturer === undefined || product?.startsWith(manufacturer) === true) return product ?? ''
  return product === undefined ? manufacturer : `${manufacturer} ${product}`
}

function formatServer({ address, name, isConnected }: WaitServer): string {
  const where = name === undefined || name === address ? address : `${name} (${address})`
  return `${where}, ${isConnected ? 'connected' : 'not connected'}`
}

/** An error's number and words stand out in reverse video, the full width of the screen. */
function matterRows(matter: unknown): Row[] {
  if (typeof matter === 'string') {
    const lines = wrapAtMost(matter, TEXT_COLUMNS, MATTER_ROWS_MAX)
    return lines.map((line) => ({ text: indent(line), emphasis: 'bold' }))
  }
  const [text = ''] = describeError(matter).split('\n  ')
  const lines = wrapAtMost(text, TEXT_COLUMNS, MATTER_ROWS_MAX)
  return lines.map((line) => ({ text: fit(indent(line), COLUMNS), emphasis: 'reverse' }))
}

function adviceRows({ matter, advice }: WaitState): Row[] {
  const text = advice?.text ?? (matter instanceof BootwireError ? matter.action : undefined)
  const lines = text === undefined ? [] : wrapAtMost(text, TEXT_COLUMNS, ADVICE_ROWS_MAX)
  const rows = lines.map((line): Row => ({ text: indent(line) }))
  if (advice?.command !== undefined) rows.push(EMPTY_ROW, commandRow(advice.command), EMPTY_ROW)
  else if (rows.length > 0) rows.push(EMPTY_ROW)
  return rows
}

function commandRow(command: string): Row {
  const text = `${' '.repeat(COMMAND_INDENT)}${cut(command, TEXT_COLUMNS - COMMAND_INDENT)}`
  return { text: indent(text), emphasis: 'bold' }
}
