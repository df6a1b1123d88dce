/** The consoles on real terminals of the kernel. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { type BootMenuOptions, chooseVdisk } from '#agent/screen/boot-menu.ts'
import { Consoles } from '#agent/screen/consoles.ts'
import type { Key } from '#agent/screen/keys.ts'
import { eventually } from '#test/support/eventually.ts'
import { FakeConsolePty } from '#test/support/fake-console-pty.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const offer = (vdisk: string) => ({ vdisk, title: `Title of ${vdisk}`, sizeBytes: 1 })

const MENU: BootMenuOptions = {
  offers: [offer('small'), offer('full')],
  defaultVdisk: 'small',
  menuSeconds: 0,
  hostname: 'client-7',
  serverName: 'lab',
}

const FRAME = [{ text: 'first' }, { text: 'second' }]
const forEver = new AbortController().signal

async function openConsoles(t: TestContext) {
  const ptys = [await FakeConsolePty.open(), await FakeConsolePty.open()] as const
  const consoles = new Consoles(ptys.map(({ path }) => path))
  t.after(async () => {
    consoles[Symbol.dispose]()
    await Promise.all(ptys.map(async (pty) => await pty[Symbol.asyncDispose]()))
  })
  return { consoles, ptys, one: ptys[0], other: ptys[1] }
}

/** The settings of a terminal as `stty -a` names them. */
function settings({ path }: FakeConsolePty): string[] {
  return execFileSync('stty', ['-F', path, '-a'], { encoding: 'utf8' }).split(/[\s;]+/)
}

function openDescriptors({ path }: FakeConsolePty): number {
  const paths = readdirSync('/proc/self/fd').map((descriptor) => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`)
    } catch {
      return '' // the folder's own descriptor, closed by now
    }
  })
  return paths.filter((open) => open === path).length
}

describe('consoles', { timeout: 60_000 }, () => {
  it('show lines and the menu on every console, and take keys from any', async (t) => {
    const { consoles, ptys, other } = await openConsoles(t)
    consoles.log('asking the server')
    for (const pty of ptys) await pty.waitFor(/^bootwire: asking the server\r+\n$/)
    const choice = chooseVdisk(consoles, MENU, forEver)
    for (const pty of ptys) await pty.waitFor(/small[^]*full[^]*Waiting for your choice/)
    for (const key of ['\x1b[B', '\x1b[A', '\x1b[B', '\r']) other.type(key)
    assert.equal(await choice, 'full')
  })

  it('hand on every key unseen while a screen is up, and lines afterwards', async (t) => {
    const { consoles, ptys, one } = await openConsoles(t)
    const keys: Key['kind'][] = []
    const screen = await consoles.openScreen(({ kind }) => keys.push(kind) > 0)
    screen.draw(FRAME)
    for (const pty of ptys) {
      const names = settings(pty)
      for (const name of ['-icanon', '-echo', '-isig', '-ixon', '-icrnl', 'opost', 'onlcr']) {
        assert.ok(names.includes(name), name)
      }
    }
    await one.waitFor(/second/)
    one.forget()
    one.type('x\x03\x13\x04\x1b')
    await eventually('Esc is told apart', () => keys.includes('escape'))
    assert.deepEqual(keys, ['character', 'unknown', 'unknown', 'unknown', 'escape'])
    assert.equal(one.shown, '')
    await screen[Symbol.asyncDispose]()
    for (const pty of ptys) {
      for (const name of ['icanon', 'echo', 'isig']) assert.ok(settings(pty).includes(name), name)
    }
  })

  it('take keys while no screen is up, and lay one screen over another', async (t) => {
    const { consoles, one, other } = await openConsoles(t)
    const unclaimed: string[] = []
    consoles.onUnclaimedKey((key) => {
      if (key.kind === 'character') unclaimed.push(key.character)
      return false
    })
    await consoles.watchKeys()
    one.type('a')
    await eventually('the key is there', () => unclaimed.join('') === 'a')
    const below = await consoles.openScreen(() => false)
    below.draw(FRAME)
    await other.waitFor(/second/)
    one.type('b')
    await eventually('the screen does not want it', () => unclaimed.join('') === 'ab')
    const claimed: Key['kind'][] = []
    const overlay = await consoles.openOverlay(({ kind }) => claimed.push(kind) > 0)
    overlay.draw([{ text: 'above' }])
    await other.waitFor(/above/)
    other.forget()
    below.update([{ text: 'changed' }, { text: 'second' }])
    one.type('c')
    await eventually('the overlay has the key', () => claimed.length === 1)
    await overlay[Symbol.asyncDispose]()
    await other.waitFor(/changed[^]*second/)
    assert.equal(unclaimed.join(''), 'ab')
    await below[Symbol.asyncDispose]()
    assert.ok(settings(one).includes('-icanon'), 'keys are still wanted')
    await consoles.unwatchKeys()
    for (const name of ['icanon', 'echo', 'isig']) assert.ok(settings(one).includes(name), name)
  })

  it('draw the screen again on Ctrl-L and on keys that do nothing', async (t) => {
    const { consoles, one, other } = await openConsoles(t)
    const screen = await consoles.openScreen(() => false)
    screen.draw(FRAME)
    for (const key of ['\x0c', 'x']) {
      for (const pty of [one, other]) await pty.waitFor(/second/)
      for (const pty of [one, other]) pty.forget()
      await eventually('the screen comes again', () => {
        one.type(key)
        return /first[^]*second/.test(other.shown)
      })
    }
    await screen[Symbol.asyncDispose]()
  })

  it('leave keys typed afterwards to whoever reads next', async (t) => {
    const { consoles, one } = await openConsoles(t)
    const screen = await consoles.openScreen(() => true)
    await screen[Symbol.asyncDispose]()
    one.type('for the shell\n')
    const reader = spawn('head', ['-n1', one.path])
    const [line] = (await once(reader.stdout, 'data')) as [Buffer]
    assert.equal(String(line), 'for the shell\n')
  })

  it('show lines logged during a screen after it', async (t) => {
    const { consoles, one } = await openConsoles(t)
    const screen = await consoles.openScreen(() => true)
    screen.draw(FRAME)
    consoles.log('meanwhile')
    await one.waitFor(/second/)
    assert.doesNotMatch(one.shown, /meanwhile/)
    await screen[Symbol.asyncDispose]()
    await one.waitFor(/second[^]*bootwire: meanwhile/)
  })

  it('hold one descriptor of a console between screens', async (t) => {
    const { consoles, one } = await openConsoles(t)
    for (let screens = 0; screens < 3; screens += 1) {
      const screen = await consoles.openScreen(() => true)
      await screen[Symbol.asyncDispose]()
    }
    await eventually('the others are closed', () => openDescriptors(one) === 1)
  })

  it('go on when a line is stopped, and draw the screen on it when it goes on', async (t) => {
    const { consoles, one, other } = await openConsoles(t)
    const screen = await consoles.openScreen(() => true)
    one.stop()
    const beganMs = performance.now()
    // Far more than a pty and all buffers of ours take.
    for (let round = 0; round < 20_000; round += 1) {
      screen.update([{ text: `round ${round}`.padEnd(70) }, { text: `${-round}`.padEnd(70) }])
    }
    assert.ok(performance.now() - beganMs < 10_000)
    await other.waitFor(/19999/)
    assert.doesNotMatch(one.shown, /19999/)
    one.goOn()
    await one.waitFor(/\[2Jround 19999/)
    await screen[Symbol.asyncDispose]()
  })

  it('go on when a line is gone, or was never there', async (t) => {
    const { consoles, one, other } = await openConsoles(t)
    await one[Symbol.asyncDispose]()
    consoles.log('one is gone')
    await other.waitFor(/one is gone/)
    const choice = chooseVdisk(consoles, MENU, forEver)
    await other.waitFor(/full/)
    other.type('2')
    assert.equal(await choice, 'full')
    using none = new Consoles(['/dev/nowhere'])
    none.log('nobody reads this')
    assert.equal(await chooseVdisk(none, { ...MENU, menuSeconds: 1 }, forEver), 'small')
  })

  it('go on when a line goes away while a screen is up', async (t) => {
    const { consoles, one, other } = await openConsoles(t)
    const choice = chooseVdisk(consoles, MENU, forEver)
    for (const pty of [one, other]) await pty.waitFor(/full/)
    await one[Symbol.asyncDispose]()
    other.type('\x1b[B\r')
    assert.equal(await choice, 'full')
  })

  it('come back on a line that is back', async () => {
    await using folder = await createTemporaryFolder()
    await using pulled = await FakeConsolePty.open()
    await using replugged = await FakeConsolePty.open()
    const path = join(folder.path, 'ttyUSB0')
    await symlink(pulled.path, path)
    using consoles = new Consoles([path])
    const screen = await consoles.openScreen(() => true)
    screen.draw(FRAME)
    await pulled.waitFor(/second/)
    await pulled[Symbol.asyncDispose]()
    await rm(path)
    screen.update([{ text: 'nobody' }, { text: 'there' }])
    await symlink(replugged.path, path)
    screen.update([{ text: 'nobody' }, { text: 'where' }])
    await replugged.waitFor(/nobody[^]*where/)
    await screen[Symbol.asyncDispose]()
  })

  it('announce what is said first after a hang-up, as getty makes one', async () => {
    await using folder = await createTemporaryFolder()
    await using hungUp = await FakeConsolePty.open()
    await using anew = await FakeConsolePty.open()
    const path = join(folder.path, 'ttyS0')
    await symlink(hungUp.path, path)
    using consoles = new Consoles([path])
    await hungUp[Symbol.asyncDispose]()
    await rm(path)
    await symlink(anew.path, path)
    consoles.announce('server lost')
    await anew.waitFor(/^\r*\nbootwire: server lost\r*\n$/)
  })

  it('never become the controlling terminal of a process without one', async (t) => {
    const pty = await FakeConsolePty.open()
    t.after(async () => await pty[Symbol.asyncDispose]())
    const script = `
      import { readFileSync } from 'node:fs'
      import { Consoles } from '#agent/screen/consoles.ts'
      const consoles = new Consoles([process.argv[1]])
      const screen = await consoles.openScreen(() => true)
      process.stdout.write(readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ')[4])
      await screen[Symbol.asyncDispose]()`
    // The leader of a new session takes any terminal it opens, unless it says otherwise.
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, pty.path], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [terminal] = (await once(child.stdout, 'data')) as [Buffer]
    assert.equal(String(terminal), '0')
    await once(child, 'exit')
  })
})
