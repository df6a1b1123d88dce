import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { type Key, KeyDecoder } from '#agent/screen/keys.ts'

const name = (key: Key) => (key.kind === 'character' ? `'${key.character}'` : key.kind)

function decode(...reads: (string | Uint8Array)[]): string[] {
  const decoder = new KeyDecoder()
  return [...reads.flatMap((read) => decoder.push(Buffer.from(read))), ...decoder.flush()].map(name)
}

const SEQUENCES = {
  up: ['\x1b[A', '\x1bOA', '\x1b[1;5A'],
  down: ['\x1b[B', '\x1bOB'],
  home: ['\x1b[H', '\x1bOH', '\x1b[1~', '\x1b[7~'],
  end: ['\x1b[F', '\x1bOF', '\x1b[4~', '\x1b[8~'],
  'page-up': ['\x1b[5~', '\x1b[5;2~'],
  'page-down': ['\x1b[6~'],
  enter: ['\r', '\n', '\r\n', '\x1bOM'],
  backspace: ['\x08', '\x7f'],
  redraw: ['\x0c'],
  escape: ['\x1b'],
  "'7'": ['7'],
  "' '": [' '],
}

for (const [key, sequences] of Object.entries(SEQUENCES)) {
  it(`KeyDecoder knows ${key} on every terminal`, () => {
    for (const sequence of sequences) assert.deepEqual(decode(sequence), [key], sequence)
  })
}

it('KeyDecoder takes what is no key of ours for one unknown key', () => {
  // F1 of the Linux console, F1 of xterm, F12, Alt-x, Ctrl-C, a byte of noise, an unfinished sequence
  for (const bytes of ['\x1b[[A', '\x1bOP', '\x1b[24~', '\x1bx', '\x03', '\0', '\x1b[', '\x1b[M']) {
    assert.deepEqual(decode(bytes), ['unknown'], JSON.stringify(bytes))
  }
  assert.deepEqual(decode(Uint8Array.of(0xff)), ['unknown'])
})

it('KeyDecoder takes two Enters for two, and the end of a line of one terminal for one', () => {
  assert.deepEqual(decode('\r\r'), ['enter', 'enter'])
  assert.deepEqual(decode('\r\n\r\n'), ['enter', 'enter'])
  assert.deepEqual(decode('\r', '\n'), ['enter'])
})

it('KeyDecoder reports Esc before another sequence, and goes on after noise in one', () => {
  assert.deepEqual(decode('\x1b\x1b[A'), ['escape', 'up'])
  assert.deepEqual(decode('\x1b[\x1b[B'), ['unknown', 'down'])
  assert.deepEqual(decode('\x1b[\x00B'), ['unknown', "'B'"])
  assert.deepEqual(decode(`\x1b[${'1'.repeat(40)}`).slice(0, 1), ['unknown'])
})

it('KeyDecoder waits only within a sequence', () => {
  const decoder = new KeyDecoder()
  for (const [bytes, isWaiting] of [
    ['\x1b', true],
    ['[', true],
    ['A', false],
    ['\r', false],
    ['x', false],
  ] as const) {
    decoder.push(Buffer.from(bytes))
    assert.equal(decoder.isWaiting, isWaiting, JSON.stringify(bytes))
  }
})

it('KeyDecoder gives the same keys however the bytes are cut into reads', () => {
  const piece = fc.constantFrom(...Object.values(SEQUENCES).flat(), '\x1b[[A', 'q', '\xff')
  const noise = fc
    .uint8Array({ maxLength: 4 })
    .map((bytes) => Buffer.from(bytes).toString('latin1'))
  const typed = fc
    .array(fc.oneof(piece, noise))
    .map((pieces) => Buffer.from(pieces.join(''), 'latin1'))
  fc.assert(
    fc.property(typed, fc.array(fc.nat({ max: 60 })), (bytes, cuts) => {
      const edges = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].sort(
        (a, b) => a - b,
      )
      const reads = edges.map((edge, index) =>
        bytes.subarray(edge, edges[index + 1] ?? bytes.length),
      )
      assert.deepEqual(decode(...reads), decode(bytes))
    }),
  )
})
