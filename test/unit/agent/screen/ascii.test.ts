import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { toAscii } from '#agent/screen/ascii.ts'

it('toAscii() spells letters of other alphabets where ASCII has a likeness', () => {
  const cases = [
    ['Büro Süd', 'Buro Sud'],
    ['Straße', 'Strasse'],
    ['Ærø – „Łódź“…', 'AEro - "Lodz"...'],
    ['日本', '??'],
    ['🖥', '?'],
    ['one\r\ntwo\rthree\u2028four', 'one\ntwo\nthree\nfour'],
  ] as const
  for (const [text, expected] of cases) assert.equal(toAscii(text), expected)
})

it('toAscii() leaves ASCII alone', () => {
  const ascii = String.fromCharCode(...Array.from({ length: 95 }, (_, index) => 32 + index))
  assert.equal(toAscii(ascii), ascii)
})

it('toAscii() gives printable ASCII and line feeds for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.match(toAscii(text), /^[\n -~]*$/)
    }),
  )
})
