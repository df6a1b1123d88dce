import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseAssignments, renderAssignments } from '#agent/boot/shell-assignments.ts'

const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{0,12}$/)
/** What a shell would take for itself stands more often than in any text. */
const value = fc
  .array(fc.oneof(fc.string(), fc.constantFrom("'", "'\\''", '\\', '$(id)', '`id`', '"', ' ', '*')))
  .map((parts) => parts.join('').replaceAll(/[\n\0]/g, ''))
const values = fc.dictionary(name, value)

describe('renderAssignments', () => {
  it('renders what parseAssignments reads', () => {
    fc.assert(
      fc.property(values, (given) => {
        assert.deepEqual(parseAssignments(renderAssignments(given)), new Map(Object.entries(given)))
      }),
    )
  })

  it('renders what a real shell reads, whatever quotes and commands are in it', () => {
    const script = `eval "$1"; printf '%s' "$BW_VALUE"`
    fc.assert(
      fc.property(value.map(wellFormed), (given) => {
        const text = renderAssignments({ BW_VALUE: given })
        assert.equal(execFileSync('sh', ['-eufc', script, 'sh', text], { encoding: 'utf8' }), given)
      }),
      { numRuns: 60 },
    )
  })

  it('refuses a name that is none', () => {
    for (const bad of ['a', '', 'A-B', 'A B', '1A', 'A;id']) {
      assert.throws(() => renderAssignments({ [bad]: '' }), /shell variable/)
    }
  })
})

describe('parseAssignments', () => {
  it('passes over lines that are no assignments', () => {
    const text = "# a comment\nlower='x'\nA=bare\nSTATE='up'\nB='open\n\n"
    assert.deepEqual(parseAssignments(text), new Map([['STATE', 'up']]))
  })
})

/** A lone half of a character has no bytes that a program could be given. */
function wellFormed(text: string): string {
  return text.toWellFormed()
}
