import assert from 'node:assert/strict'
import { it } from 'node:test'
import { failureIn } from '#test/demo/demo-stage.ts'

it('failureIn() is what a command says in the end, without its progress', () => {
  assert.equal(
    failureIn(
      'looking what is on the image\nbootwire: BW-E204 Cannot import "x"\n  Give another\n',
    ),
    'BW-E204 Cannot import "x"\n  Give another',
  )
  assert.equal(failureIn('killed\n'), 'killed')
})
