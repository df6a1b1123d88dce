/** Draws the boot menu. Pure. */
import { formatBytes } from '#shared/units.ts'
import type { Offer } from '#shared/wire/messages.ts'
import { COLUMNS, type Frame, type Row } from './frame.ts'
import { EMPTY_ROW, indent, masthead, RULE_ROW, TEXT_COLUMNS } from './masthead.ts'
import { highlightedOffer, type MenuState, SINGLE_DIGIT_MAX, WINDOW_ROWS } from './menu-state.ts'
import { cut, fit } from './text-layout.ts'

/** `> 12  ` before the title. */
const NUMBER_COLUMNS = 6
/** ` 999.00 GiB` behind the name. */
const SIZE_COLUMNS = 12
const COLUMN_GAP = 2

export interface MenuHeading {
  readonly hostname: string | undefined
  readonly serverName: string | undefined
}

export function menuFrame(state: MenuState, heading: MenuHeading): Frame {
  return [
    ...masthead(heading.hostname, heading.serverName),
    EMPTY_ROW,
    { text: indent('Choose what this machine starts') },
    moreRow(state.top, 'above'),
    ...offerRows(state),
    moreRow(state.offers.length - state.top - WINDOW_ROWS, 'below'),
    RULE_ROW,
    { text: indent(countdownText(state)), emphasis: 'bold' },
    { text: indent(keysText(state)) },
  ]
}

function offerRows(state: MenuState): Row[] {
  const nameColumns = nameColumnsOf(state.offers)
  return state.offers
    .slice(state.top, state.top + WINDOW_ROWS)
    .map((offer, index) => offerRow(state, offer, state.top + index, nameColumns))
}

function offerRow(state: MenuState, offer: Offer, index: number, nameColumns: number): Row {
  const isHighlighted = index === state.highlighted
  const number = `${isHighlighted ? '>' : ' '} ${String(index + 1).padStart(2)}`
  const titleColumns = TEXT_COLUMNS - NUMBER_COLUMNS - nameColumns - COLUMN_GAP - SIZE_COLUMNS
  const text = [
    fit(number, NUMBER_COLUMNS),
    fit(offer.title === '' ? offer.vdisk : offer.title, titleColumns),
    ' '.repeat(COLUMN_GAP),
    fit(offer.vdisk, nameColumns),
    formatBytes(offer.sizeBytes).padStart(SIZE_COLUMNS),
  ].join('')
  return isHighlighted
    ? { text: fit(indent(text), COLUMNS), emphasis: 'reverse' }
    : { text: indent(text) }
}

/** Names are as wide as the longest, within what leaves the titles as much. */
function nameColumnsOf(offers: readonly Offer[]): number {
  const longest = Math.max(...offers.map(({ vdisk }) => vdisk.length))
  return Math.min(longest, (TEXT_COLUMNS - NUMBER_COLUMNS - COLUMN_GAP - SIZE_COLUMNS) >> 1)
}

function moreRow(count: number, where: string): Row {
  return count > 0 ? { text: indent(`      (${count} more ${where})`) } : EMPTY_ROW
}

function countdownText(state: MenuState): string {
  if (state.secondsLeft === undefined) {
    return state.digits === '' ? 'Waiting for your choice' : `Number ${state.digits}`
  }
  const what = highlightedOffer(state).vdisk
  const text = `in ${state.secondsLeft} s. Any key stops the countdown.`
  return `Starts ${cut(what, TEXT_COLUMNS - text.length - 8)} ${text}`
}

function keysText({ offers }: MenuState): string {
  const last = offers.length
  const digits = last === 1 ? '1' : `1-${last}`
  const numbers = last > SINGLE_DIGIT_MAX ? 'Digits: go to number' : `${digits}: start at once`
  return `Up, Down: move    Enter: start    ${numbers}    T: technician`
}
