import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const NEVER = new AbortController().signal

describe('RunFolder', { timeout: 10_000 }, () => {
  let temporary: TemporaryFolder
  let folder: RunFolder
  beforeEach(async () => {
    temporary = await createTemporaryFolder()
    folder = new RunFolder(join(temporary.path, 'bootwire'))
  })
  afterEach(async () => {
    await temporary[Symbol.asyncDispose]()
  })

  it('write replaces a file whole, and leaves nothing beside it', () => {
    folder.write('failed', 'a long text')
    folder.write('failed', 'short')
    assert.equal(folder.read('failed'), 'short')
    assert.deepEqual(readdirSync(folder.path), ['failed'])
  })

  it('read returns undefined for what is not there, and throws for what cannot be read', () => {
    assert.equal(folder.read('failed'), undefined)
    mkdirSync(folder.pathOf('failed'))
    assert.throws(() => folder.read('failed'), { code: 'EISDIR' })
  })

  it('remove takes a file, a folder with all in it, and nothing at all', () => {
    folder.write('failed', 'x')
    mkdirSync(folder.pathOf('kexec'))
    writeFileSync(join(folder.pathOf('kexec'), 'vmlinuz'), 'x')
    for (const name of ['failed', 'kexec', 'none']) folder.remove(name)
    assert.deepEqual(readdirSync(folder.path), [])
  })

  it('until returns at once what is there, also a value that looks like nothing', async () => {
    for (const value of ['', 0, false, null]) {
      assert.equal(await folder.until(() => value, NEVER), value)
    }
  })

  it('until looks again whenever a file is written, renamed or removed', async () => {
    folder.write('a', '1')
    let looks = 0
    const looked = folder.until(() => {
      looks += 1
      return folder.read('c') === 'done' && folder.read('a') === undefined ? 'both' : undefined
    }, NEVER)
    assert.equal(looks, 1)
    folder.write('b', '1')
    writeFileSync(folder.pathOf('c'), 'done')
    folder.remove('a')
    assert.equal(await looked, 'both')
    assert.ok(looks > 1)
  })

  it('until rejects with what its reader throws, now or later', async () => {
    const broken = new Error('broken')
    await assert.rejects(
      folder.until(() => {
        throw broken
      }, NEVER),
      broken,
    )
    const later = folder.until(() => {
      if (folder.read('a') !== undefined) throw broken
      return undefined
    }, NEVER)
    folder.write('a', '')
    await assert.rejects(later, broken)
  })

  it('until ends with the reason of its signal, before and while it waits', async () => {
    await assert.rejects(
      folder.until(() => 1, AbortSignal.abort('before')),
      (error) => error === 'before',
    )
    const controller = new AbortController()
    const waiting = folder.until(() => undefined, controller.signal)
    controller.abort('enough')
    await assert.rejects(waiting, (error) => error === 'enough')
  })
})
