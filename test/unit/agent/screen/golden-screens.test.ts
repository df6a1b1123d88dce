/** The screens as people see them. A change of a golden screen is a change of the product. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LINK_NAMES, type LinkReport } from '#agent/diagnosis/chain-check.ts'
import { codeFrame } from '#agent/screen/code-frame.ts'
import { drawFrame, type Frame, ROWS } from '#agent/screen/frame.ts'
import { menuFrame } from '#agent/screen/menu-frame.ts'
import { createMenuState, pressMenuKey } from '#agent/screen/menu-state.ts'
import { technicianFrame } from '#agent/screen/technician-frame.ts'
import { type WaitState, waitFrame } from '#agent/screen/wait-frame.ts'
import { BootwireError } from '#shared/errors.ts'
import { GiB } from '#shared/units.ts'
import { FakeConsoleTerminal } from '#test/support/fake-console-terminal.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../../golden/screen/${name}.txt`, import.meta.url), 'utf8')

/** What a terminal shows, without the blanks at the ends. */
function shown(frame: Frame): string {
  const terminal = new FakeConsoleTerminal()
  terminal.write(drawFrame(frame))
  return `${terminal.rows
    .map((row) => row.trimEnd())
    .join('\n')
    .trimEnd()}\n`
}

const FACTS = {
  macs: ['52:54:00:e2:e0:04', '52:54:00:e2:e0:05'],
  uuid: '4c4c4544-0042-3510-8052-b7c04f335931',
  systemSerial: '7B5R3Z1',
  manufacturer: 'Dell Inc.',
  product: 'OptiPlex 7090',
}
const SERVER = { address: '192.0.2.10:8443', name: 'lab', isConnected: true }

const PENDING: WaitState = {
  facts: FACTS,
  hostname: 'client-7',
  server: SERVER,
  matter: new BootwireError('CLIENT_PENDING', 'This machine waits to be approved'),
  advice: { text: 'Approve it on the server:', command: 'bootwire client approve client-7' },
}

const PIN = 'Xk3tq1m2n4b5v6c7x8z9a0s1d2f3g4h5j6k7l8q9w0e'

const HEADING = { hostname: 'client-7', serverName: 'lab' }

describe('golden screens', () => {
  it('the menu of a few vDisks', () => {
    const offers = [
      { vdisk: 'debian-12.7', title: 'Debian 12', sizeBytes: 8 * GiB },
      { vdisk: 'kiosk', title: 'Kiosk im Foyer (Süd)', sizeBytes: 4 * GiB },
      { vdisk: 'lab', title: '', sizeBytes: 20.5 * GiB },
    ]
    const state = createMenuState({ offers, defaultVdisk: 'kiosk', menuSeconds: 10 })
    assert.equal(shown(menuFrame(state, HEADING)), golden('menu'))
  })

  it('the technician’s screen with a broken link, and with none', () => {
    const good = LINK_NAMES.map((name) => ({ name, state: 'good' as const, text: `${name} works` }))
    const error = new BootwireError(
      'SERVER_UNREACHABLE',
      'Cannot reach 192.0.2.10:8443 (ECONNREFUSED)',
    )
    const broken = good.map((report, index): LinkReport => {
      if (report.name === 'server') return { name: 'server', state: 'bad', error }
      if (report.name === 'DHCP') return { ...report, state: 'note', text: 'two servers answer' }
      return index > 4 ? { ...report, state: 'untested', text: 'needs server' } : report
    })
    const view = { ...HEADING, facts: { ...FACTS, memoryBytes: GiB } }
    assert.equal(shown(technicianFrame({ ...view, reports: broken })), golden('technician-broken'))
    assert.equal(shown(technicianFrame({ ...view, reports: good })), golden('technician-good'))
    const early = good.map(
      (report): LinkReport =>
        report.name === 'stream' ? { ...report, state: 'untested' } : report,
    )
    assert.match(
      shown(technicianFrame({ ...view, reports: early })),
      /so far works; the boot has not/,
    )
    const long = new BootwireError('KEY_MISMATCH', 'x '.repeat(400))
    const reports: LinkReport[] = [...good.slice(1), { name: 'TLS', state: 'bad', error: long }]
    assert.equal(technicianFrame({ ...view, reports }).length, ROWS)
    shown(technicianFrame({ ...view, reports }))
  })

  it('the menu of many vDisks with long names, scrolled', () => {
    const offers = Array.from({ length: 64 }, (_, index) => ({
      vdisk: `vdisk-${index + 1}-`.padEnd(63, 'x'),
      title: `Title ${index + 1} `.padEnd(120, 'and so on '),
      sizeBytes: 999.99 * GiB,
    }))
    const state = createMenuState({ offers, defaultVdisk: offers[40]?.vdisk, menuSeconds: 0 })
    const typed = pressMenuKey(state, { kind: 'character', character: '3' })
    assert.ok(typed !== undefined && 'state' in typed)
    const further = pressMenuKey(typed.state, { kind: 'character', character: '0' })
    assert.ok(further !== undefined && 'state' in further)
    assert.equal(shown(menuFrame(further.state, HEADING)), golden('menu-scrolled'))
  })

  it('a machine that waits to be approved', () => {
    assert.equal(shown(waitFrame(PENDING, 72_000)), golden('waiting-for-approval'))
  })

  it('the code of a machine for a phone, read back by a reader of QR codes when it was made golden', () => {
    const frame = codeFrame({ code: 'WDJB-MJHT', serverPins: [PIN] }, 'client-7', 'lab')
    assert.equal(shown(frame), golden('enrol-code'))
  })

  it('a server that does not answer', () => {
    const state: WaitState = {
      facts: { macs: FACTS.macs.slice(0, 1), product: 'Standard PC (Q35 + ICH9, 2009)' },
      server: { address: '192.0.2.10:8443', isConnected: false },
      matter: new BootwireError(
        'SERVER_UNREACHABLE',
        'Cannot reach the server 192.0.2.10:8443: connect ECONNREFUSED 192.0.2.10:8443',
      ),
    }
    assert.equal(shown(waitFrame(state, 4_000)), golden('server-unreachable'))
  })
})

describe('waitFrame()', () => {
  it('names the machine before what is to be done, as one reads', () => {
    const text = shown(waitFrame(PENDING, 0))
    const order = ['52:54:00:e2:e0:04', 'BW-E306', 'client approve client-7', 'Waiting for']
    const places = order.map((part) => text.indexOf(part))
    assert.ok(!places.includes(-1))
    assert.deepEqual(
      places,
      places.toSorted((one, other) => one - other),
    )
  })

  it('shows the action of an error only where the caller knows nothing better', () => {
    assert.doesNotMatch(shown(waitFrame(PENDING, 0)), /approve ID/)
    const { advice: _, ...plain } = PENDING
    assert.match(shown(waitFrame(plain, 0)), /approve ID/)
  })

  it('gives the number and the words of an error the full width in reverse video', () => {
    const rows = waitFrame(PENDING, 0).filter(({ emphasis }) => emphasis === 'reverse')
    assert.deepEqual(
      rows.map(({ text }) => [text.trim(), text.length]),
      [['BW-E306 This machine waits to be approved', 79]],
    )
  })

  it('says what an unknown failure is', () => {
    assert.match(shown(waitFrame({ ...PENDING, matter: new Error('boom') }, 0)), /BW-E999 boom/)
  })

  it('shows a sentence instead of an error while all is well', () => {
    const { advice: _, ...state } = PENDING
    const text = shown(waitFrame({ ...state, matter: 'Asking the server' }, 0))
    assert.match(text, /Asking the server/)
    assert.doesNotMatch(text, /BW-E/)
  })

  it('fits on a screen when every text is as long as it may be', () => {
    const long = 'many words '.repeat(100)
    const facts = { ...FACTS, uuid: long, systemSerial: long, manufacturer: long, product: long }
    const screen = shown(
      waitFrame(
        {
          facts: { ...facts, macs: Array.from({ length: 32 }, () => '52:54:00:e2:e0:04') },
          hostname: long,
          server: { address: long, name: long, isConnected: true },
          matter: new BootwireError('VDISK_GONE', long),
          advice: { text: long, command: long },
        },
        1e12,
      ),
    )
    assert.match(screen, /\(29 more\)/)
    assert.match(screen, /Waiting for .*\n$/)
  })

  it('fits on a screen, command and last row too, whatever the texts', () => {
    const text = fc.string({ unit: 'binary', maxLength: 1100 })
    const facts = fc.record(
      {
        macs: fc.array(fc.constant('52:54:00:e2:e0:04'), { maxLength: 32 }),
        uuid: text,
        systemSerial: text,
        manufacturer: text,
        product: text,
      },
      { requiredKeys: ['macs'] },
    )
    fc.assert(
      fc.property(facts, text, text, text, (facts, message, name, advice) => {
        const server = { address: name, name, isConnected: false }
        const matter = new BootwireError('VDISK_GONE', message)
        const command = 'bootwire client assign client-7 lab'
        const state = { facts, hostname: name, server, matter, advice: { text: advice, command } }
        const screen = shown(waitFrame(state, 1e12))
        assert.match(screen, /client assign client-7 lab\n/)
        assert.match(screen, /Waiting for .*\n$/)
      }),
      { numRuns: 50 },
    )
  })
})
