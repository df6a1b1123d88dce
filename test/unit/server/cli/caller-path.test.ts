import assert from 'node:assert/strict'
import { it } from 'node:test'
import { callerPath } from '#server/cli/caller-path.ts'

it('callerPath takes a path from where npm was called, else from where the process runs', () => {
  assert.equal(callerPath('a.img', { INIT_CWD: '/images' }), '/images/a.img')
  assert.equal(callerPath('/a.img', { INIT_CWD: '/images' }), '/a.img')
  assert.equal(callerPath('a.img', {}), `${process.cwd()}/a.img`)
})
