import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Key, NamedKey } from '#agent/screen/keys.ts'
import {
  createMenuState,
  highlightedOffer,
  type MenuState,
  type MenuStep,
  pressMenuKey,
  tickMenu,
  updateMenu,
  WINDOW_ROWS,
} from '#agent/screen/menu-state.ts'
import { ASSIGNMENTS_MAX } from '#shared/wire/limits.ts'
import type { Offer } from '#shared/wire/messages.ts'

const offer = (vdisk: string): Offer => ({ vdisk, title: vdisk, sizeBytes: 1 })
const offers = (count: number) =>
  Array.from({ length: count }, (_, index) => offer(`v${index + 1}`))

function menu(count: number, defaultVdisk?: string, menuSeconds = 10): MenuState {
  return createMenuState({ offers: offers(count), defaultVdisk, menuSeconds })
}

/** Presses keys one after the other: names of keys, or single characters. */
function press(state: MenuState, ...keys: readonly (NamedKey | `'${string}`)[]): MenuStep {
  let step: MenuStep = { state }
  for (const key of keys) {
    assert.ok('state' in step, `chosen before ${key}`)
    const pressed: Key = key.startsWith("'")
      ? { kind: 'character', character: key.slice(1) }
      : { kind: key as NamedKey }
    step = pressMenuKey(step.state, pressed) ?? step
  }
  return step
}

/** What is highlighted, or was chosen. */
function outcome(step: MenuStep): string {
  return 'chosen' in step ? `chosen ${step.chosen}` : highlightedOffer(step.state).vdisk
}

describe('the boot menu', () => {
  it('begins at the default, or at the first when there is none', () => {
    assert.equal(outcome({ state: menu(3, 'v2') }), 'v2')
    assert.equal(outcome({ state: menu(3, 'gone') }), 'v1')
    assert.equal(outcome({ state: menu(3) }), 'v1')
  })

  it('moves by arrows, Home, End and pages, and stops at both ends', () => {
    const state = menu(20)
    assert.equal(outcome(press(state, 'down', 'down', 'up')), 'v2')
    assert.equal(outcome(press(state, 'up')), 'v1')
    assert.equal(outcome(press(state, 'end', 'down')), 'v20')
    assert.equal(outcome(press(state, 'end', 'home')), 'v1')
    assert.equal(outcome(press(state, 'page-down')), `v${WINDOW_ROWS + 1}`)
    assert.equal(outcome(press(state, 'page-down', 'page-down', 'page-up')), `v${20 - WINDOW_ROWS}`)
  })

  it('boots the highlighted one on Enter', () => {
    assert.equal(outcome(press(menu(3), 'down', 'enter')), 'chosen v2')
  })

  it('boots the one of a digit at once when each has a digit', () => {
    assert.equal(outcome(press(menu(9), "'9")), 'chosen v9')
    assert.equal(outcome(press(menu(3), "'4")), 'v1')
    assert.equal(outcome(press(menu(3), "'0")), 'v1')
  })

  it('goes to a number of one or two digits when there are more, and Enter boots it', () => {
    const state = menu(24)
    assert.equal(outcome(press(state, "'2")), 'v2')
    assert.equal(outcome(press(state, "'2", "'3")), 'v23')
    assert.equal(outcome(press(state, "'2", "'3", 'enter')), 'chosen v23')
    // 25 is not there: the 5 begins another number.
    assert.equal(outcome(press(state, "'2", "'5")), 'v5')
    assert.equal(outcome(press(state, "'2", "'3", 'backspace')), 'v2')
    assert.equal(outcome(press(state, "'2", 'down', "'3")), 'v3')
    assert.equal(outcome(press(state, "'2", "'0")), 'v20')
    assert.equal(outcome(press(state, "'0", "'0", "'7")), 'v7')
  })

  it('counts down to the highlighted one', () => {
    let step: MenuStep = { state: menu(3, 'v2', 3) }
    for (const expected of ['v2', 'v2', 'chosen v2']) {
      assert.ok('state' in step)
      step = tickMenu(step.state)
      assert.equal(outcome(step), expected)
    }
  })

  it('stops the countdown at the first key of a person', () => {
    for (const key of ['up', 'down', 'escape', 'backspace', "'x", "' "] as const) {
      const step = press(menu(3, 'v2', 1), key)
      assert.ok('state' in step)
      assert.equal(step.state.secondsLeft, undefined, key)
      assert.ok('state' in tickMenu(step.state), key)
    }
  })

  it('does not take noise for a person', () => {
    assert.equal(pressMenuKey(menu(3), { kind: 'unknown' }), undefined)
  })

  it('waits for ever when there is no countdown', () => {
    assert.ok('state' in tickMenu(menu(3, 'v2', 0)))
  })

  it('keeps what is highlighted when the offers change', () => {
    const step = press(menu(3), 'down')
    assert.ok('state' in step)
    const changed = updateMenu(step.state, {
      offers: [offer('new'), offer('v1'), offer('v2')],
      defaultVdisk: 'new',
      menuSeconds: 10,
    })
    assert.equal(outcome({ state: changed }), 'v2')
    assert.equal(changed.secondsLeft, undefined)
  })

  it('counts on when the offers change, and anew when another one is highlighted', () => {
    const counting = { ...menu(3, 'v2'), secondsLeft: 4 }
    const change = { defaultVdisk: 'new', menuSeconds: 10 }
    const kept = updateMenu(counting, { ...change, offers: [offer('new'), offer('v2')] })
    assert.equal(kept.secondsLeft, 4)
    const gone = updateMenu(counting, { ...change, offers: [offer('v1'), offer('new')] })
    assert.equal(outcome({ state: gone }), 'new')
    assert.equal(gone.secondsLeft, 10)
  })

  it('does not begin to count when a person was there and the highlighted one goes', () => {
    const step = press(menu(3), 'down')
    assert.ok('state' in step)
    const change = { offers: offers(1), defaultVdisk: undefined, menuSeconds: 10 }
    assert.equal(updateMenu(step.state, change).secondsLeft, undefined)
  })

  it('moves the window only when the highlighted one would leave it', () => {
    const tops = (...keys: NamedKey[]) => {
      const step = press(menu(40), ...keys)
      assert.ok('state' in step)
      return step.state.top
    }
    const down = Array.from({ length: WINDOW_ROWS }, (): NamedKey => 'down')
    assert.equal(tops(...down.slice(1)), 0)
    assert.equal(tops(...down), 1)
    assert.equal(tops(...down, 'up', 'up'), 1)
    assert.equal(tops('end', 'up'), 40 - WINDOW_ROWS)
  })

  it('fills the window when fewer offers are left', () => {
    const step = press(menu(40, 'v20'), 'page-down', 'page-up')
    assert.ok('state' in step)
    const change = { offers: offers(21), defaultVdisk: undefined, menuSeconds: 0 }
    const changed = updateMenu({ ...step.state, top: 19 }, change)
    assert.equal(outcome({ state: changed }), 'v20')
    assert.equal(changed.top, 21 - WINDOW_ROWS)
  })

  it('highlights one of the offers within the window, whatever happens', () => {
    const kinds: readonly NamedKey[] = ['up', 'down', 'home', 'end', 'page-up', 'page-down']
    const others: readonly NamedKey[] = ['escape', 'backspace', 'redraw', 'unknown', 'enter']
    const key = fc.oneof(
      fc.constantFrom(...kinds, ...others).map((kind): Key => ({ kind })),
      fc
        .constantFrom(...'0123456789x'.split(''))
        .map((c): Key => ({ kind: 'character', character: c })),
    )
    const count = fc.integer({ min: 1, max: ASSIGNMENTS_MAX })
    const event = fc.oneof(
      { weight: 8, arbitrary: key.map((key) => ({ key })) },
      { weight: 1, arbitrary: count.map((count) => ({ count })) },
      { weight: 1, arbitrary: fc.constant('tick' as const) },
    )
    fc.assert(
      fc.property(count, fc.array(event, { maxLength: 40 }), (count, events) => {
        let state = menu(count, 'v3', 5)
        for (const event of events) {
          const step = apply(state, event)
          if ('chosen' in step) {
            assert.ok(state.offers.some(({ vdisk }) => vdisk === step.chosen))
          } else state = step.state
          assertInWindow(state)
        }
      }),
    )
  })
})

type Event = 'tick' | { readonly key: Key } | { readonly count: number }

function apply(state: MenuState, event: Event): MenuStep {
  if (event === 'tick') return tickMenu(state)
  if ('key' in event) return pressMenuKey(state, event.key) ?? { state }
  const change = { offers: offers(event.count), defaultVdisk: 'v2', menuSeconds: 5 }
  return { state: updateMenu(state, change) }
}

function assertInWindow({ offers, highlighted, top }: MenuState): void {
  assert.ok(highlighted >= 0 && highlighted < offers.length)
  assert.ok(highlighted >= top && highlighted < top + WINDOW_ROWS)
  assert.ok(top >= 0 && top <= Math.max(0, offers.length - WINDOW_ROWS))
}
