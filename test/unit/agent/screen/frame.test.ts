import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { COLUMNS, drawFrame, endFrame, type Frame, ROWS, updateFrame } from '#agent/screen/frame.ts'
import { FakeConsoleTerminal } from '#test/support/fake-console-terminal.ts'

const FRAME: Frame = [
  { text: 'bootwire', emphasis: 'bold' },
  { text: '' },
  { text: '> 1  small', emphasis: 'reverse' },
  { text: '  2  full' },
  { text: 'Starts small in 10 s.' },
]

/** What a terminal shows after these bytes. */
function shown(...texts: string[]) {
  const terminal = new FakeConsoleTerminal()
  for (const text of texts) terminal.write(text)
  return { rows: terminal.rows, styles: terminal.styles, isCursorShown: terminal.isCursorShown }
}

it('drawFrame() gives the rows in plain order, one a line', () => {
  // oxlint-disable-next-line no-control-regex -- what a log of the line would leave out
  const plain = drawFrame(FRAME).replaceAll(/\x1b\[[0-9;?]*[A-Za-z]/g, '')
  assert.equal(plain, FRAME.map(({ text }) => `${text}\r\n`).join(''))
})

it('drawFrame() shows the frame whatever the terminal showed before', () => {
  const { rows, styles, isCursorShown } = shown(
    '\x1b[7mjunk\r\njunk\r\n\x1b[12;60H',
    drawFrame(FRAME),
  )
  assert.deepEqual(rows.map((row) => row.trimEnd()).slice(0, 6), [
    ...FRAME.map(({ text }) => text),
    '',
  ])
  assert.match(styles[0] ?? '', /^b{8}\.+$/)
  assert.match(styles[2] ?? '', /^r{10}\.+$/)
  assert.match(styles[3] ?? '', /^\.+$/)
  assert.equal(isCursorShown, false)
})

it('updateFrame() writes a second of a countdown with a few bytes', () => {
  const after = FRAME.with(4, { text: 'Starts small in 9 s.' })
  const bytes = updateFrame(FRAME, after)
  assert.ok(bytes.length <= 24, JSON.stringify(bytes))
  assert.equal(updateFrame(after, after), '')
})

it('updateFrame() writes nothing when only blanks at the end differ', () => {
  assert.equal(updateFrame([{ text: 'one' }, { text: '' }], [{ text: 'one ' }, { text: ' ' }]), '')
})

it('updateFrame() draws the whole frame when rows came or went', () => {
  assert.equal(updateFrame(FRAME, FRAME.slice(1)), drawFrame(FRAME.slice(1)))
  assert.equal(updateFrame([], FRAME), drawFrame(FRAME))
})

it('updateFrame() leaves a terminal as drawFrame() would', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', ' '), maxLength: 12 })
  const row = fc.record(
    { text, emphasis: fc.constantFrom<'bold' | 'reverse'>('bold', 'reverse') },
    { requiredKeys: ['text'] },
  )
  const frame = fc.array(row, { minLength: 3, maxLength: 5 })
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 6 }), (frames) => {
      const steps = frames.map((frame, index) => updateFrame(frames[index - 1] ?? [], frame))
      assert.deepEqual(shown(...steps), shown(drawFrame(frames.at(-1) ?? [])))
    }),
  )
})

it('updateFrame() leaves the cursor below the last row', () => {
  const frame = FRAME.with(3, { text: 'x' })
  const [rows, expected] = [shown(drawFrame(FRAME), updateFrame(FRAME, frame), 'kernel'), 'kernel']
  assert.match(rows.rows[FRAME.length] ?? '', new RegExp(`^${expected} `))
})

it('the largest frame neither wraps nor scrolls, and a larger one is a mistake', () => {
  const largest: Frame = Array.from({ length: ROWS }, () => ({ text: 'x'.repeat(COLUMNS) }))
  shown(drawFrame(largest), updateFrame(largest, largest.with(ROWS - 1, { text: 'y' })))
  assert.throws(() => drawFrame([...largest, { text: '' }]), /Invariant/)
  assert.throws(() => drawFrame([{ text: 'x'.repeat(COLUMNS + 1) }]), /Invariant/)
})

it('endFrame() leaves an empty terminal with a cursor', () => {
  const { rows, isCursorShown } = shown(drawFrame(FRAME), endFrame())
  assert.equal(rows.join('').trim(), '')
  assert.equal(isCursorShown, true)
})
