import assert from 'node:assert/strict'
import { it } from 'node:test'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'

it('invariant throws what is no error of a user, and only when it is broken', () => {
  invariant(true, 'fine')
  const isOurs = (error: unknown) => error instanceof Error && !(error instanceof BootwireError)
  for (const broken of [false, 0, '', undefined]) {
    assert.throws(() => invariant(broken, 'the count'), isOurs)
    assert.throws(() => invariant(broken, 'the count'), { message: 'Invariant broken: the count' })
  }
})
