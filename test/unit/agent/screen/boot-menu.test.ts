import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { BootMenu, type BootMenuOptions, chooseVdisk } from '#agent/screen/boot-menu.ts'
import { FakeConsoleScreen } from '#test/support/fake-console-screen.ts'

const offer = (vdisk: string) => ({ vdisk, title: `Title of ${vdisk}`, sizeBytes: 1 })

const OPTIONS: BootMenuOptions = {
  offers: [offer('small'), offer('full')],
  defaultVdisk: 'full',
  menuSeconds: 3,
  hostname: 'client-7',
  serverName: 'lab',
}

const forEver = new AbortController().signal

/** Opens a menu whose seconds go by when the test says so. */
async function openMenu(t: TestContext, options: Partial<BootMenuOptions> = {}) {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const screen = new FakeConsoleScreen()
  const menu = await BootMenu.open(screen, { ...OPTIONS, ...options })
  return { screen, menu, second: () => t.mock.timers.tick(1_000) }
}

describe('BootMenu', () => {
  it('boots the default when nobody is there', async (t) => {
    const { menu, screen, second } = await openMenu(t)
    const choice = menu.choice(forEver)
    assert.match(screen.text, /Starts full in 3 s/)
    second()
    assert.match(screen.text, /Starts full in 2 s/)
    second()
    second()
    assert.equal(await choice, 'full')
    await menu[Symbol.asyncDispose]()
    assert.equal(screen.isUp, false)
  })

  it('boots what is chosen, and draws the whole screen only once', async (t) => {
    const { menu, screen } = await openMenu(t)
    for (const key of ['down', 'up', 'enter'] as const) screen.press(key)
    assert.equal(await menu.choice(forEver), 'small')
    assert.equal(screen.draws, 1)
  })

  it('keeps the first choice when more keys and seconds follow', async (t) => {
    const { menu, screen, second } = await openMenu(t)
    for (const key of ['enter', 'up', 'enter'] as const) screen.press(key)
    for (let passed = 0; passed < 5; passed += 1) second()
    assert.equal(await menu.choice(forEver), 'full')
  })

  it('lets a letter stop the countdown and go on to whom it is for', async (t) => {
    const { screen } = await openMenu(t)
    assert.match(screen.text, /Starts full in 3 s/)
    assert.equal(screen.press({ character: 't' }), false)
    assert.match(screen.text, /Waiting for your choice/)
  })

  it('says of a key whether it did something, so that others draw the screen again', async (t) => {
    const { screen } = await openMenu(t)
    assert.equal(screen.press('unknown'), false)
    assert.equal(screen.press('escape'), true) // stops the countdown
    assert.equal(screen.press('escape'), false)
    assert.equal(screen.press('up'), true)
    assert.equal(screen.press('up'), false)
    assert.equal(screen.press({ character: 'x' }), false)
  })

  it('shows other offers from scratch and keeps what is highlighted', async (t) => {
    const { menu, screen } = await openMenu(t)
    screen.press('up')
    menu.update({ ...OPTIONS, offers: [offer('new'), ...OPTIONS.offers], defaultVdisk: 'new' })
    assert.equal(screen.draws, 2)
    assert.match(screen.text, /new[^]*small[^]*full/)
    assert.match(screen.highlighted ?? '', /small/)
  })
})

describe('chooseVdisk()', () => {
  it('takes the screen away after the choice', async () => {
    const screen = new FakeConsoleScreen()
    const choice = chooseVdisk(screen, { ...OPTIONS, menuSeconds: 0 }, forEver, (menu) => {
      menu.update({ ...OPTIONS, menuSeconds: 0, offers: [offer('other'), offer('small')] })
      screen.press({ character: '1' })
    })
    assert.equal(await choice, 'other')
    assert.equal(screen.isUp, false)
  })

  it('rejects with the reason of its signal, and takes the screen away', async () => {
    const screen = new FakeConsoleScreen()
    const controller = new AbortController()
    const choice = chooseVdisk(screen, OPTIONS, controller.signal, () => {
      controller.abort(new Error('server gone'))
    })
    await assert.rejects(choice, /server gone/)
    assert.equal(screen.isUp, false)
    await assert.rejects(chooseVdisk(screen, OPTIONS, controller.signal), /server gone/)
    assert.equal(screen.isUp, false)
  })
})
