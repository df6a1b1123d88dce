import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { cut, fit, wrap, wrapAtMost } from '#agent/screen/text-layout.ts'

it('wrap() breaks at spaces and keeps paragraphs', () => {
  assert.deepEqual(wrap('one two three\nfour', 9), ['one two', 'three', 'four'])
  assert.deepEqual(wrap('', 9), [''])
})

it('wrap() breaks within a word longer than a line', () => {
  assert.deepEqual(wrap('a 0123456789abc d', 5), ['a', '01234', '56789', 'abc d'])
})

it('wrap() loses no word and exceeds no line', () => {
  const columns = fc.integer({ min: 1, max: 30 })
  fc.assert(
    fc.property(fc.string({ unit: 'binary-ascii' }), columns, (text, columns) => {
      const lines = wrap(text, columns)
      for (const line of lines) assert.ok(line.length <= columns)
      const visible = text.replaceAll(/[^!-~\t\r\n ]/g, '?').replaceAll(/\s/g, '')
      assert.equal(lines.join('').replaceAll(' ', ''), visible)
    }),
  )
})

it('wrapAtMost() marks where lines are left out', () => {
  assert.deepEqual(wrapAtMost('one two three four', 8, 3), ['one two', 'three', 'four'])
  assert.deepEqual(wrapAtMost('one two three four', 8, 2), ['one two', 'three...'])
  assert.deepEqual(wrapAtMost('12345678 12345678', 8, 1), ['12345...'])
})

it('fit() is as wide as asked for, and cut() no wider', () => {
  assert.equal(fit('ab', 4), 'ab  ')
  assert.equal(fit('abcdefgh', 6), 'abc...')
  assert.equal(cut('a\nb', 6), 'a b')
  assert.equal(cut('abcdef', 2), 'ab')
})
