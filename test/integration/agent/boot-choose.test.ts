/** From a session to an open vDisk, with a scripted server and a person at the console. */
import assert from 'node:assert/strict'
import { afterEach, before, beforeEach, describe, it } from 'node:test'
import { type ChooseParts, type Chosen, chooseAndOpen } from '#agent/boot/choose-vdisk.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import type { Offer } from '#shared/wire/messages.ts'
import {
  createServerKey,
  identity,
  openedBy,
  type ScriptedPeer,
  ScriptedServer,
} from '#test/support/agent-scripted-server.ts'
import { createSession, type TestSession } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { FakeConsoleScreen } from '#test/support/fake-console-screen.ts'

const FACTS = { macs: ['52:54:00:00:00:01'] }
const DEBIAN: Offer = { vdisk: 'debian', title: 'Debian', sizeBytes: 1_000_000 }
const KIOSK: Offer = { vdisk: 'kiosk', title: 'Kiosk', sizeBytes: 1_000_000 }
/** Nobody but the person chooses. */
const MENU = { offers: [DEBIAN, KIOSK], defaultVdisk: 'debian', menuSeconds: 0 }

class LoggingScreen extends FakeConsoleScreen {
  readonly lines: string[] = []

  log(text: string): void {
    this.lines.push(text)
  }
}

describe('chooseAndOpen', { timeout: 20_000 }, () => {
  let key: ServerKey
  let server: ScriptedServer
  let session: TestSession
  let consoles: LoggingScreen

  before(async () => {
    key = await createServerKey()
  })
  beforeEach(async () => {
    server = await ScriptedServer.start(key)
    session = createSession(server)
    consoles = new LoggingScreen()
    session.start()
  })
  afterEach(async () => {
    await session[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  const choose = (fields: Partial<ChooseParts> = {}): Promise<Chosen> =>
    chooseAndOpen({
      session,
      consoles,
      facts: FACTS,
      presetVdisk: undefined,
      failureShownMs: 1,
      ...fields,
    })
  const shows = async (text: string) =>
    await eventually(`"${text}" is shown`, () => consoles.isUp && consoles.text.includes(text))
  const answer = async (peer: ScriptedPeer, vdisk: string) => {
    assert.equal((await peer.nextMessage('open')).vdisk, vdisk)
    peer.say(openedBy(key, { vdisk }))
  }

  it('opens the only offer without a word', async () => {
    const choosing = choose()
    const peer = await server.nextPeer()
    await peer.greet()
    await answer(peer, 'debian')
    assert.equal((await choosing).opened.vdisk, 'debian')
    assert.equal(consoles.draws, 0)
  })

  it('shows what it waits for until something is offered, and takes the screen away', async () => {
    const choosing = choose()
    const peer = await server.nextPeer()
    await peer.greet({ state: 'pending', offers: [] })
    await shows('bootwire client approve client-1')
    peer.say(identity({ offers: [] }))
    await shows('BW-E308')
    peer.say(identity({ state: 'refused', offers: [] }))
    await shows('BW-E307')
    peer.say(identity())
    await answer(peer, 'debian')
    const chosen = await choosing
    assert.equal(chosen.identity.hostname, 'client-1')
    assert.equal(consoles.isUp, false)
  })

  it('lets a person choose from several', async () => {
    const choosing = choose()
    const peer = await server.nextPeer()
    await peer.greet(MENU)
    await shows('Kiosk')
    consoles.press('down')
    consoles.press('enter')
    await answer(peer, 'kiosk')
    assert.equal((await choosing).opened.vdisk, 'kiosk')
    assert.equal(consoles.isUp, false)
  })

  it('takes the menu away when the administrator takes what it offered', async () => {
    const choosing = choose()
    const peer = await server.nextPeer()
    await peer.greet(MENU)
    await shows('Kiosk')
    peer.say(identity({ offers: [] }))
    await shows('BW-E308')
    peer.say(identity({ offers: [KIOSK] }))
    await answer(peer, 'kiosk')
    await choosing
  })

  it('asks nobody for what was chosen under another kernel, unless it is gone', async () => {
    const choosing = choose({ presetVdisk: 'kiosk' })
    const peer = await server.nextPeer()
    await peer.greet(MENU)
    assert.equal((await peer.nextMessage('open')).vdisk, 'kiosk')
    assert.equal(consoles.draws, 0)
    peer.say({ kind: 'error', code: 'VDISK_GONE', message: 'Cannot open vDisk "kiosk"' })
    await shows('Debian')
    assert.deepEqual(consoles.lines, [
      'BW-E309 Cannot open vDisk "kiosk"\n  Assign another vDisk to this client on the server',
    ])
    consoles.press('enter')
    await answer(peer, 'debian')
    await choosing
  })

  it('asks nobody twice when the server is lost after the choice', async () => {
    const choosing = choose()
    const first = await server.nextPeer()
    await first.greet(MENU)
    await shows('Kiosk')
    consoles.press('down')
    consoles.press('enter')
    await first.nextMessage('open')
    first.websocket.terminate()
    const second = await server.nextPeer()
    await second.greet(MENU)
    await answer(second, 'kiosk')
    assert.equal((await choosing).opened.vdisk, 'kiosk')
  })

  it('keeps the menu while the server is away, and opens what was chosen when it is back', async () => {
    const choosing = choose()
    const first = await server.nextPeer()
    await first.greet(MENU)
    await shows('Kiosk')
    first.websocket.terminate()
    await eventually('it is lost', () => !session.connection.isUp)
    assert.match(consoles.text, /Kiosk/)
    consoles.press('enter')
    const second = await server.nextPeer()
    await second.greet(MENU)
    await answer(second, 'debian')
    await choosing
  })
})
