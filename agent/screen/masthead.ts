/** The top of every full screen, and the lines that part it. Pure. */
import { COLUMNS, type Row } from './frame.ts'
import { cut } from './text-layout.ts'

/** Columns left free at both sides. */
export const MARGIN = 2
export const TEXT_COLUMNS: number = COLUMNS - 2 * MARGIN

const PRODUCT = 'bootwire'

export const EMPTY_ROW: Row = { text: '' }
export const RULE_ROW: Row = { text: '-'.repeat(COLUMNS) }

/** Product on the left, machine and server on the right. */
export function masthead(hostname: string | undefined, serverName: string | undefined): Row[] {
  const names = [hostname, serverName === undefined ? undefined : `server ${serverName}`]
  const right = cut(
    names.filter((name) => name !== undefined).join('  |  '),
    TEXT_COLUMNS - PRODUCT.length - 2,
  )
  const text = `${PRODUCT}${right.padStart(TEXT_COLUMNS - PRODUCT.length)}`
  return [{ text: indent(text.trimEnd()), emphasis: 'bold' }, { text: '='.repeat(COLUMNS) }]
}

export function indent(text: string): string {
  return text === '' ? '' : `${' '.repeat(MARGIN)}${text}`
}
