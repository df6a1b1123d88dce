import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { ServerLostNotice, type ServerTrouble } from '#agent/screen/server-lost-notice.ts'
import type { WaitState } from '#agent/screen/wait-frame.ts'
import { WaitScreen } from '#agent/screen/wait-screen.ts'
import { formatWaited } from '#agent/screen/waited-time.ts'
import { BootwireError } from '#shared/errors.ts'
import { FakeConsoleScreen } from '#test/support/fake-console-screen.ts'

const STATE: WaitState = {
  facts: { macs: ['52:54:00:e2:e0:04'] },
  server: { address: '192.0.2.10:8443', isConnected: false },
  matter: new BootwireError('SERVER_UNREACHABLE', 'Cannot reach 192.0.2.10:8443'),
}

/** Time that goes by when the test says so: timers, and a clock that began at any time. */
function createClock(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  let nowMs = 12_345
  const pass = (ms: number) => {
    for (let left = ms; left > 0; left -= 1_000) {
      nowMs += Math.min(left, 1_000)
      t.mock.timers.tick(Math.min(left, 1_000))
    }
  }
  return { now: () => nowMs, pass }
}

it('formatWaited() gives the two largest units', () => {
  const cases = [
    [999, '0 s'],
    [59_999, '59 s'],
    [185_000, '3 min 5 s'],
    [7_800_000, '2 h 10 min'],
    [273_600_000, '3 d 4 h'],
  ] as const
  for (const [ms, expected] of cases) assert.equal(formatWaited(ms), expected)
})

describe('WaitScreen', () => {
  it('counts the time without drawing the screen anew', async (t) => {
    const clock = createClock(t)
    const screen = new FakeConsoleScreen()
    await using _ = await WaitScreen.open(screen, STATE, clock)
    assert.match(screen.text, /Waiting for 0 s/)
    clock.pass(65_000)
    assert.match(screen.text, /Waiting for 1 min 5 s/)
    assert.equal(screen.draws, 1)
  })

  it('shows another matter from scratch and counts on', async (t) => {
    const clock = createClock(t)
    const screen = new FakeConsoleScreen()
    await using waiting = await WaitScreen.open(screen, STATE, clock)
    clock.pass(5_000)
    waiting.update({ ...STATE, matter: new BootwireError('NOTHING_ASSIGNED', 'No vDisk') })
    assert.match(screen.text, /BW-E308 No vDisk[^]*Waiting for 5 s/)
    assert.equal(screen.draws, 2)
  })

  it('does not draw the same once more, as at every attempt that fails', async (t) => {
    const screen = new FakeConsoleScreen()
    await using waiting = await WaitScreen.open(screen, STATE, createClock(t))
    const matter = new BootwireError('SERVER_UNREACHABLE', 'Cannot reach 192.0.2.10:8443')
    waiting.update({ ...STATE, matter })
    assert.equal(screen.draws, 1)
  })

  it('leaves every key to the screen, which draws itself again', async (t) => {
    const screen = new FakeConsoleScreen()
    await using _ = await WaitScreen.open(screen, STATE, createClock(t))
    assert.equal(screen.press('enter'), false)
  })

  it('shows the code for a phone on a key and back on any, only while there is one', async (t) => {
    const screen = new FakeConsoleScreen()
    await using waiting = await WaitScreen.open(screen, STATE, createClock(t))
    assert.equal(screen.press({ character: 'q' }), false)
    const enrol = { code: 'WDJB-MJHT', serverPins: [] }
    waiting.update({ ...STATE, enrol })
    assert.match(screen.text, /Q: QR code/)
    assert.equal(screen.press({ character: 'q' }), true)
    assert.match(screen.text, /Code of this machine: WDJB-MJHT/)
    assert.equal(screen.press('enter'), true)
    assert.match(screen.text, /Waiting for/)
    assert.equal(screen.press({ character: 'Q' }), true)
    waiting.update(STATE)
    assert.match(screen.text, /Waiting for/)
  })

  it('goes away when it is closed, and counts no more', async (t) => {
    const clock = createClock(t)
    const screen = new FakeConsoleScreen()
    const waiting = await WaitScreen.open(screen, STATE, clock)
    await waiting[Symbol.asyncDispose]()
    assert.equal(screen.isUp, false)
    const { updates } = screen
    clock.pass(3_000)
    assert.equal(screen.updates, updates)
  })
})

describe('ServerLostNotice', () => {
  function startNotice(t: TestContext, runsAlone = () => false, trouble: ServerTrouble = 'lost') {
    const clock = createClock(t)
    const lines: string[] = []
    const announce = (line: string) => lines.push(line)
    const notice = new ServerLostNotice({ announce }, '192.0.2.10:8443', {
      trouble,
      runsAlone,
      now: clock.now,
    })
    return { notice, lines, pass: clock.pass }
  }

  it('says that the work is kept, and that the server is back', (t) => {
    const { notice, lines, pass } = startNotice(t)
    pass(8_000)
    notice.end()
    pass(60_000)
    assert.deepEqual(lines, [
      'server 192.0.2.10:8443 lost for 5 s, waiting; your work is kept, leave the machine on',
      'server 192.0.2.10:8443 is back after 8 s',
    ])
  })

  it('says so of a server that answers and sends nothing', (t) => {
    const { notice, lines, pass } = startNotice(t, () => false, 'silent')
    pass(6_000)
    notice.end()
    assert.match(
      lines[0] ?? '',
      /^server 192.0.2.10:8443 answers but has sent nothing for 5 s, wait/,
    )
  })

  it('is silent about a server that is back soon', (t) => {
    const { notice, lines, pass } = startNotice(t)
    pass(4_000)
    notice.end()
    pass(60_000)
    assert.deepEqual(lines, [])
  })

  it('says once that the machine runs on when all is on its own disk, and again when that ends', (t) => {
    let runsAlone = true
    const { notice, lines, pass } = startNotice(t, () => runsAlone)
    pass(3_600_000)
    runsAlone = false
    pass(600_000)
    notice.end()
    assert.deepEqual(lines, [
      'server 192.0.2.10:8443 lost for 5 s; this machine runs on without it, from its own disk',
      'server 192.0.2.10:8443 lost for 1 h 0 min, waiting; your work is kept, leave the machine on',
      'server 192.0.2.10:8443 is back after 1 h 10 min',
    ])
  })

  it('repeats itself more and more seldom, and never less than every 10 minutes', (t) => {
    const { notice, lines, pass } = startNotice(t)
    pass(3_600_000)
    const waited = lines.map((line) => / lost for (?<time>[^,]*)/.exec(line)?.groups?.['time'])
    assert.deepEqual(waited.slice(0, 4), ['5 s', '15 s', '35 s', '1 min 15 s'])
    assert.deepEqual(waited.slice(-2), ['40 min 35 s', '50 min 35 s'])
    notice[Symbol.dispose]()
    pass(3_600_000)
    assert.equal(lines.length, waited.length)
  })
})
