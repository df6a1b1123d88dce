import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { VmConsole } from '#test/support/vm-console.ts'

const SOON = { timeoutMs: 5_000 }

describe('VmConsole', () => {
  let folder: TemporaryFolder
  const typed: string[] = []
  let count = 0

  before(async () => {
    folder = await createTemporaryFolder()
  })
  after(async () => {
    await folder[Symbol.asyncDispose]()
  })

  const newConsole = () => {
    count += 1
    return new VmConsole(join(folder.path, `${count}.log`), (keys) => typed.push(String(keys)))
  }

  it('matches across parts, and each text once', async () => {
    const console = newConsole()
    const waiting = console.expect(/(?<name>\w+) login: /, SOON)
    console.receive(Buffer.from('Debian\r\nclient-'))
    console.receive(Buffer.from('1 login: '))
    assert.equal((await waiting).groups['name'], '1')
    const again = console.expect(/login: /, SOON)
    console.receive(Buffer.from('second login: '))
    assert.equal((await again).text, 'second login: ')
  })

  it('matches what was shown before the wait', async () => {
    const console = newConsole()
    console.receive(Buffer.from('one two'))
    await console.expect(/one/, SOON)
    await console.expect(/two/, SOON)
  })

  it('drops control sequences, also when they come in two parts', () => {
    const console = newConsole()
    for (const part of ['\x1b[2J\x1b[0;1mbo', 'o\x1b', '[31mt\x1b[', '0m\x1b(B w\xc3\xbc']) {
      console.receive(Buffer.from(part, 'latin1'))
    }
    assert.equal(console.text, 'boot wü')
  })

  it('fails with the last lines when nothing comes in time', async () => {
    const console = newConsole()
    console.receive(Buffer.from('stuck here\n'))
    await assert.rejects(
      console.expect(/login/, { timeoutMs: 1 }),
      /0\.001 s \/login\/.*\nstuck here/,
    )
  })

  it('fails at once on a kernel panic, on what is not to come, and at the end', async () => {
    const panicking = newConsole()
    const waiting = panicking.expect(/login/, SOON)
    panicking.receive(Buffer.from('[ 1.0] Kernel panic - not syncing: no init\n'))
    await assert.rejects(waiting, /showed a failure/)
    const failing = newConsole()
    const unless = failing.expect(/login/, { ...SOON, unless: /BW-E/ })
    failing.receive(Buffer.from('BW-E301\n'))
    await assert.rejects(unless, /showed a failure/)
    const ending = newConsole()
    const last = ending.expect(/login/, SOON)
    ending.end('QEMU ended with status 0')
    await assert.rejects(last, /QEMU ended with status 0/)
    await assert.rejects(ending.expect(/login/, SOON), /ended before/)
  })

  it('writes a log of lines with their times', async () => {
    const console = newConsole()
    console.receive(Buffer.from('first\nsec'))
    console.receive(Buffer.from('ond\n'))
    console.end('off')
    const text = () => readFile(console.logPath, 'utf8').catch(() => '')
    await eventually('the log is written', async () => (await text()).endsWith('off\n'))
    assert.match(await text(), /^ +\d+\.\d\d first\n +\d+\.\d\d second\n/)
  })

  it('types', () => {
    newConsole().send('root\n')
    assert.deepEqual(typed, ['root\n'])
  })
})
