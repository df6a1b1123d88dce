import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import {
  BootwireError,
  describeError,
  ERROR_KINDS,
  isErrorCode,
  isRetryable,
} from '#shared/errors.ts'

/** Every number that was ever given out, with its code: a line may be added, none changed or removed. */
const GIVEN_OUT = readFileSync(new URL('../../golden/errors/numbers.txt', import.meta.url), 'utf8')

describe('ERROR_KINDS', () => {
  const kinds = Object.entries(ERROR_KINDS)

  it('has the numbers that were given out, and no other meaning for any', () => {
    const lines = kinds.map(([code, { number }]) => `${number} ${code}\n`)
    assert.equal(
      lines.sort().join(''),
      GIVEN_OUT,
      'a new one goes to test/golden/errors/numbers.txt',
    )
  })

  it('gives each number once', () => {
    assert.equal(new Set(kinds.map(([, { number }]) => number)).size, kinds.length)
    const numbers = GIVEN_OUT.trimEnd()
      .split('\n')
      .map((line) => line.split(' ')[0])
    assert.equal(new Set(numbers).size, numbers.length)
  })

  it('has for each a number of the right form and an action without a period', () => {
    for (const [code, { number, action }] of kinds) {
      assert.match(code, /^[A-Z]+(_[A-Z]+)*$/)
      assert.match(number, /^BW-E[1-49][0-9]{2}$/)
      assert.match(action, /^[A-Z].*[^.]$/, code)
      // The field of the wire's `error` message.
      assert.ok(code.length <= 40)
    }
  })
})

describe('BootwireError', () => {
  const cause = new Error('below')
  const error = new BootwireError('NO_NETWORK', 'No link on eth0', { cause })

  it('has number and action of its code', () => {
    assert.equal(error.name, 'BootwireError')
    assert.equal(error.number, 'BW-E401')
    assert.equal(error.action, ERROR_KINDS.NO_NETWORK.action)
    assert.equal(error.cause, cause)
  })

  it('describeError gives number, message and action', () => {
    assert.equal(
      describeError(error),
      'BW-E401 No link on eth0\n  Check the network cable and the switch port',
    )
  })

  it('describeError of anything else is an internal error with its text', () => {
    assert.equal(describeError(new TypeError('x is undefined')), 'BW-E999 x is undefined')
    assert.equal(describeError('text'), 'BW-E999 text')
    assert.equal(describeError(undefined), 'BW-E999 undefined')
  })

  it('isRetryable is true only of kinds that pass by themselves', () => {
    assert.equal(isRetryable(error), true)
    assert.equal(isRetryable(new BootwireError('KEY_MISMATCH', 'x')), false)
    assert.equal(isRetryable(new Error('x')), false)
    assert.equal(isRetryable(undefined), false)
  })

  it('isErrorCode takes the keys of the table and no names of objects', () => {
    assert.equal(isErrorCode('NO_NETWORK'), true)
    for (const value of [
      'no_network',
      '',
      'toString',
      '__proto__',
      'constructor',
      401,
      undefined,
    ]) {
      assert.equal(isErrorCode(value), false, String(value))
    }
  })
})
