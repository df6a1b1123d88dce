import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConsoleScreen } from '#agent/screen/console-screen.ts'
import { drawFrame, type Frame } from '#agent/screen/frame.ts'
import type { Key } from '#agent/screen/keys.ts'

const FRAME: Frame = [{ text: 'one' }, { text: 'two' }]
const WHOLE = drawFrame(FRAME)

/** A screen on outputs in memory; each remembers what it was given. */
function createScreen(onKey: (key: Key) => boolean = () => false) {
  const outputs = [new FakeOutput(), new FakeOutput()] as const
  const screen = new ConsoleScreen(outputs, onKey)
  screen.draw(FRAME)
  return { screen, outputs, first: outputs[0] }
}

class FakeOutput {
  readonly replaced: string[] = []
  readonly appended: string[] = []

  replace(text: string): void {
    this.replaced.push(text)
  }

  append(text: string): void {
    this.appended.push(text)
  }
}

describe('ConsoleScreen', () => {
  it('draws on every output instead of what waits there, and updates behind it', () => {
    const { screen, outputs } = createScreen()
    screen.update(FRAME.with(1, { text: 'twa' }))
    screen.update(FRAME.with(1, { text: 'twa' }))
    for (const { replaced, appended } of outputs) {
      assert.deepEqual([replaced, appended.length], [[WHOLE], 1])
      assert.match(appended[0] ?? '', /a/)
    }
    screen[Symbol.dispose]()
  })

  it('draws itself again every minute, until it is disposed of', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    const { screen, first } = createScreen()
    t.mock.timers.tick(60_000)
    t.mock.timers.tick(60_000)
    assert.deepEqual(first.replaced, [WHOLE, WHOLE, WHOLE])
    screen[Symbol.dispose]()
    t.mock.timers.tick(60_000)
    assert.equal(first.replaced.length, 3)
  })

  it('does not become a flood when noise comes for keys', () => {
    const { screen, first } = createScreen()
    for (let noise = 0; noise < 1_000; noise += 1) screen.press({ kind: 'unknown' })
    assert.ok(first.replaced.length <= 3)
    screen[Symbol.dispose]()
  })

  it('keeps Ctrl-L for itself and hands on all else', () => {
    const keys: Key[] = []
    const { screen } = createScreen((key) => keys.push(key) > 0)
    screen.press({ kind: 'redraw' })
    screen.press({ kind: 'up' })
    assert.deepEqual(keys, [{ kind: 'up' }])
    screen[Symbol.dispose]()
  })
})
