/** Draws the technician's screen: each link of the chain, and what to do about the first that is broken. Pure. */
import { describeError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { firstBroken, type LinkReport } from '../diagnosis/chain-check.ts'
import { COLUMNS, type Frame, type Row } from './frame.ts'
import { EMPTY_ROW, indent, masthead, RULE_ROW, TEXT_COLUMNS } from './masthead.ts'
import { cut, fit, wrapAtMost } from './text-layout.ts'

export interface TechnicianView {
  readonly facts: MachineFacts
  readonly hostname: string | undefined
  readonly serverName: string | undefined
  readonly reports: readonly LinkReport[]
}

const MATTER_ROWS = 3
const ADVICE_ROWS = 3

const MARK_COLUMNS = 6
const NAME_COLUMNS = 12

/** Words, not colours alone: a serial log has none, and not everybody sees them. */
const MARKS: Readonly<Record<LinkReport['state'], string>> = {
  good: 'ok',
  note: 'note',
  bad: 'FAIL',
  untested: '-',
  testing: '...',
}

const EMPHASES: Readonly<Record<LinkReport['state'], Row['emphasis']>> = {
  good: 'green',
  note: 'bold',
  bad: 'red',
  untested: undefined,
  testing: undefined,
}

const KEYS = 'R: check again    D: send a disk    C: go on with the boot    B: restart'

export function technicianFrame({ facts, hostname, serverName, reports }: TechnicianView): Frame {
  const [mac = 'no network card'] = facts.macs
  const machine = [mac, facts.product, facts.systemSerial].filter((it) => it !== undefined)
  return [
    ...masthead(hostname, serverName),
    { text: indent(cut(`The way to the server, as ${machine.join(', ')} sees it`, TEXT_COLUMNS)) },
    EMPTY_ROW,
    ...reports.map(linkRow),
    EMPTY_ROW,
    ...matterRows(reports),
    RULE_ROW,
    { text: indent(KEYS) },
  ]
}

function linkRow(report: LinkReport): Row {
  const emphasis = EMPHASES[report.state]
  const text = [
    fit(MARKS[report.state], MARK_COLUMNS),
    fit(report.name, NAME_COLUMNS),
    cut(textOf(report), TEXT_COLUMNS - MARK_COLUMNS - NAME_COLUMNS),
  ].join('')
  return { text: indent(text.trimEnd()), ...(emphasis && { emphasis }) }
}

function textOf(report: LinkReport): string {
  if (report.state === 'testing') return ''
  return report.state === 'bad' ? `${report.error.number} ${report.error.message}` : report.text
}

/** Always as many rows, so that a change is drawn in place. */
function matterRows(reports: readonly LinkReport[]): Row[] {
  const rows = matterOf(reports)
  return [...rows, ...Array<Row>(MATTER_ROWS + ADVICE_ROWS - rows.length).fill(EMPTY_ROW)]
}

/** The last link needs all others. */
function goodNews(reports: readonly LinkReport[]): string {
  if (reports.some(({ state }) => state === 'testing')) return 'Checking...'
  const last = reports.at(-1)?.state
  if (last === 'good' || last === 'note') return 'Every link works.'
  return 'Everything so far works; the boot has not come further.'
}

function matterOf(reports: readonly LinkReport[]): Row[] {
  const broken = firstBroken(reports)
  if (broken === undefined) {
    return [{ text: indent(goodNews(reports)) }]
  }
  const [matter = '', advice = ''] = describeError(broken.error).split('\n  ')
  const lines = wrapAtMost(`${broken.name}: ${matter}`, TEXT_COLUMNS, MATTER_ROWS)
  return [
    ...lines.map((line): Row => ({ text: fit(indent(line), COLUMNS), emphasis: 'reverse' })),
    ...wrapAtMost(advice, TEXT_COLUMNS, ADVICE_ROWS).map((line) => ({ text: indent(line) })),
  ]
}
