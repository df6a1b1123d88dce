import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseLvmText, sectionAt, sectionsOf } from '#server/import/lvm/lvm-text.ts'

describe('parseLvmText()', () => {
  it('reads sections, numbers, texts and lists, and passes comments over', () => {
    const text = `# made by hand
version = 1
quota = 0.5
my-group.1 {	# a section
  id = "a \\"b\\" \\\\ # no comment"
  list = [
    "pv0", 0,
    -5
  ]
  empty = []
  1st { }
}
`
    assert.deepEqual(parseLvmText(text), {
      version: 1,
      quota: 0.5,
      'my-group.1': {
        id: 'a "b" \\ # no comment',
        list: ['pv0', 0, -5],
        empty: [],
        '1st': {},
      },
    })
  })

  it('throws for what is none', () => {
    for (const text of [
      'a',
      'a =',
      'a {',
      'a { } }',
      'a = [ 1',
      'a = {',
      '= 1',
      'a = "b',
      'ä = 1',
    ]) {
      assert.throws(() => parseLvmText(text), SyntaxError, text)
    }
    assert.throws(() => parseLvmText('a {'.repeat(100)), /deep/)
  })

  it('has no names beside those of the text', () => {
    const section = parseLvmText('__proto__ { a = 1 }\nb = [ 1 ]\nc = 2')
    assert.deepEqual(sectionsOf(section), [['__proto__', { a: 1 }]])
    assert.deepEqual(sectionAt(section, 'toString'), {})
    assert.deepEqual(sectionAt(section, 'b'), {})
  })
})
