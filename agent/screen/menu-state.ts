/**
 * The boot menu as a value: what is offered, what is highlighted, how long until it boots by itself.
 * Every event makes a new state or a choice. Pure.
 *
 * The highlighted offer is always one of the offers and always in the window of rows shown.
 */
import { invariant } from '#shared/invariant.ts'
import type { Offer } from '#shared/wire/messages.ts'
import type { Key } from './keys.ts'

/** Offers shown at a time: what the rows of a screen leave. */
export const WINDOW_ROWS = 13

/** Up to here every offer has a digit, which boots it at once. */
export const SINGLE_DIGIT_MAX = 9

export interface MenuState {
  readonly offers: readonly Offer[]
  readonly highlighted: number
  /** The first offer shown. */
  readonly top: number
  /** Digits typed so far, where a number may have two. */
  readonly digits: string
  /** Until the highlighted offer boots; undefined when only a person decides. */
  readonly secondsLeft: number | undefined
}

export interface MenuOptions {
  readonly offers: readonly Offer[]
  readonly defaultVdisk: string | undefined
  /** 0 waits for ever. */
  readonly menuSeconds: number
}

/** What an event leads to: the menu goes on, or the named vDisk is to boot. */
export type MenuStep = { readonly state: MenuState } | { readonly chosen: string }

export function createMenuState(options: MenuOptions): MenuState {
  invariant(options.offers.length > 0, 'a menu needs offers')
  const state: MenuState = {
    offers: options.offers,
    highlighted: 0,
    top: 0,
    digits: '',
    secondsLeft: options.menuSeconds > 0 ? options.menuSeconds : undefined,
  }
  return highlight(state, Math.max(0, indexOf(options.offers, options.defaultVdisk)))
}

/**
 * Takes other offers. What is highlighted stays so if it is still there; otherwise the default is,
 * and a countdown that goes on begins anew, since it is for something else now.
 */
export function updateMenu(state: MenuState, options: MenuOptions): MenuState {
  const kept = indexOf(options.offers, highlightedOffer(state).vdisk)
  const fresh = createMenuState(options)
  if (kept < 0) {
    return state.secondsLeft === undefined ? { ...fresh, secondsLeft: undefined } : fresh
  }
  return highlight({ ...fresh, top: state.top, secondsLeft: state.secondsLeft }, kept)
}

/** One second went by. */
export function tickMenu(state: MenuState): MenuStep {
  if (state.secondsLeft === undefined) return { state }
  if (state.secondsLeft <= 1) return { chosen: highlightedOffer(state).vdisk }
  return { state: { ...state, secondsLeft: state.secondsLeft - 1 } }
}

/** Returns undefined for a key that does nothing here. A person at the keys ends the countdown. */
export function pressMenuKey(state: MenuState, key: Key): MenuStep | undefined {
  if (key.kind === 'unknown') return undefined
  const attended: MenuState = { ...state, secondsLeft: undefined }
  if (key.kind === 'character') return pressCharacter(attended, key.character)
  if (key.kind === 'enter') return { chosen: highlightedOffer(state).vdisk }
  if (key.kind === 'backspace') return { state: typeDigits(attended, state.digits.slice(0, -1)) }
  return { state: highlight({ ...attended, digits: '' }, target(state, key.kind)) }
}

export function highlightedOffer(state: MenuState): Offer {
  const offer = state.offers[state.highlighted]
  invariant(offer !== undefined, 'the highlighted offer is one of the offers')
  return offer
}

function target({ highlighted, offers }: MenuState, kind: Key['kind']): number {
  const targets: Partial<Record<Key['kind'], number>> = {
    up: highlighted - 1,
    down: highlighted + 1,
    'page-up': highlighted - WINDOW_ROWS,
    'page-down': highlighted + WINDOW_ROWS,
    home: 0,
    end: offers.length - 1,
  }
  return targets[kind] ?? highlighted
}

function pressCharacter(state: MenuState, character: string): MenuStep {
  if (!/[0-9]/.test(character)) return { state: { ...state, digits: '' } }
  if (state.offers.length <= SINGLE_DIGIT_MAX) {
    const offer = state.offers[Number(character) - 1]
    return offer === undefined ? { state } : { chosen: offer.vdisk }
  }
  return { state: typeDigits(state, continueNumber(state, character)) }
}

/** A digit continues the number typed, or begins one where that would be too large. */
function continueNumber({ digits, offers }: MenuState, digit: string): string {
  const longer = Number(digits + digit) <= offers.length ? digits + digit : digit
  return Number(longer) === 0 ? '' : longer
}

function typeDigits(state: MenuState, digits: string): MenuState {
  return highlight({ ...state, digits }, digits === '' ? state.highlighted : Number(digits) - 1)
}

/** Highlights the offer at the index or the nearest to it, and moves the window to it. */
function highlight(state: MenuState, index: number): MenuState {
  const count = state.offers.length
  const highlighted = Math.min(Math.max(index, 0), count - 1)
  const lowest = Math.max(highlighted - WINDOW_ROWS + 1, 0)
  const highest = Math.min(highlighted, Math.max(count - WINDOW_ROWS, 0))
  const top = Math.min(Math.max(state.top, lowest), highest)
  return { ...state, highlighted, top }
}

function indexOf(offers: readonly Offer[], vdisk: string | undefined): number {
  return offers.findIndex((offer) => offer.vdisk === vdisk)
}
