/**
 * What a full screen shows, and the bytes that put it on a terminal. Pure.
 *
 * A whole draw clears the terminal and writes row after row in plain order, so that the log of a
 * serial line reads like the screen. An update moves the cursor to the cells that changed and writes
 * only those: a countdown costs a dozen bytes a second, not the kilobyte of a screen. The cursor
 * rests below the last row, where lines of the kernel do the least harm.
 */
import { invariant } from '#shared/invariant.ts'

/** A terminal of 80 columns; one is left free, since the last wraps on some. */
export const COLUMNS = 79

/** A terminal of 24 rows; the last one is where the cursor rests. */
export const ROWS = 23

export interface Row {
  readonly text: string
  readonly emphasis?: 'bold' | 'reverse' | 'green' | 'red'
}

export type Frame = readonly Row[]

const CSI = '\x1b['
const PLAIN = `${CSI}0m`
const HIDE_CURSOR = `${CSI}?25l`
const SHOW_CURSOR = `${CSI}?25h`
const CLEAR = `${PLAIN}${CSI}H${CSI}2J`
const CLEAR_TO_END_OF_ROW = `${CSI}K`
const EMPHASIS = {
  bold: `${CSI}1m`,
  reverse: `${CSI}7m`,
  green: `${CSI}32m`,
  red: `${CSI}1;31m`,
}

/** Returns what shows the whole frame on a terminal in any state. */
export function drawFrame(frame: Frame): string {
  invariant(frame.length <= ROWS, `a frame has ${frame.length} rows`)
  const rows = frame.map((row) => {
    invariant(row.text.length <= COLUMNS, `a row is too long: ${row.text}`)
    return `${emphasized(row, row.text)}\r\n`
  })
  return `${HIDE_CURSOR}${CLEAR}${rows.join('')}`
}

/** Returns what turns a terminal that shows `before` into one that shows `after`. */
export function updateFrame(before: Frame, after: Frame): string {
  if (before.length !== after.length) return drawFrame(after)
  const changes = after.map((row, index) => updateRow(before[index] ?? row, row, index)).join('')
  return changes === '' ? '' : `${changes}${moveTo(after.length, 0)}`
}

/** Returns what leaves an empty terminal for plain lines. */
export function endFrame(): string {
  return `${CLEAR}${SHOW_CURSOR}`
}

function updateRow(before: Row, after: Row, index: number): string {
  const length = Math.max(before.text.length, after.text.length)
  // The emphasis of a row ends with its text, so another length changes more than characters.
  const isWhole = after.emphasis !== undefined && before.text.length !== after.text.length
  if (isWhole || before.emphasis !== after.emphasis) {
    return `${moveTo(index, 0)}${emphasized(after, after.text)}${CLEAR_TO_END_OF_ROW}`
  }
  const [old, fresh] = [before.text.padEnd(length), after.text.padEnd(length)]
  if (old === fresh) return ''
  let first = 0
  while (old[first] === fresh[first]) first += 1
  let end = length
  while (old[end - 1] === fresh[end - 1]) end -= 1
  return `${moveTo(index, first)}${emphasized(after, fresh.slice(first, end))}`
}

function emphasized({ emphasis }: Row, text: string): string {
  return emphasis === undefined || text === '' ? text : `${EMPHASIS[emphasis]}${text}${PLAIN}`
}

function moveTo(rowIndex: number, columnIndex: number): string {
  return `${CSI}${rowIndex + 1};${columnIndex + 1}H`
}
