import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { callerPath } from '#server/cli/caller-path.ts'
import { parseDemoOptions } from '#test/demo/demo-options.ts'

describe('parseDemoOptions()', () => {
  it('gives the console over when nothing is said', () => {
    assert.deepEqual(parseDemoOptions([]), { exit: false, json: false, memoryMiB: 1024 })
  })

  it('ends at the login prompt for --json', () => {
    assert.deepEqual(parseDemoOptions(['--json', '--disk', 'a.img', '--memory', '512']), {
      exit: true,
      json: true,
      memoryMiB: 512,
      disk: callerPath('a.img'),
    })
  })

  it('answers --help', () => {
    assert.equal(parseDemoOptions(['--exit', '--help']), 'help')
  })

  it('says what is wrong', () => {
    assert.throws(
      () => parseDemoOptions(['--memory', '100']),
      /--memory "100": expected .* from 512/,
    )
    assert.throws(() => parseDemoOptions(['--memory', 'big']), /--memory "big"/)
    assert.throws(() => parseDemoOptions(['--fast']), /--fast/)
    assert.throws(() => parseDemoOptions(['image.img']), /image\.img/)
  })
})
