import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { LinkReport } from '#agent/diagnosis/chain-check.ts'
import { showTechnicianScreen } from '#agent/screen/technician-screen.ts'
import { BootwireError } from '#shared/errors.ts'
import { eventually } from '#test/support/eventually.ts'
import { FakeConsoleScreen } from '#test/support/fake-console-screen.ts'

const about = () => ({
  facts: { macs: ['52:54:00:00:00:01'], memoryBytes: 1 },
  hostname: 'c',
  serverName: 's',
})
const GOOD: LinkReport[] = [{ name: 'link', state: 'good', text: 'eth0' }]
const BAD: LinkReport[] = [
  {
    name: 'link',
    state: 'bad',
    error: new BootwireError('NO_NETWORK', 'Cannot use eth0: it has no link'),
  },
]

describe('the technician’s screen', { timeout: 10_000 }, () => {
  const open = (results: LinkReport[][], againAfterMs = 3_600_000) => {
    const fake = new FakeConsoleScreen()
    let checks = 0
    let restarts = 0
    const shown = showTechnicianScreen(
      { openOverlay: (onKey) => fake.openScreen(onKey) },
      {
        about,
        check: async (onChange) => {
          const reports = results[Math.min(checks, results.length - 1)] ?? GOOD
          checks += 1
          onChange([{ name: 'link', state: 'testing' }])
          onChange(reports)
          return reports
        },
        restart: () => (restarts += 1),
        againAfterMs,
      },
    )
    return { fake, shown, checks: () => checks, restarts: () => restarts }
  }

  it('names what is broken and what to do, and goes on at C', async () => {
    const { fake, shown } = open([BAD])
    await eventually('it is shown', () => /FAIL +link +BW-E401/.test(fake.text))
    assert.match(fake.text, /Check the network cable/)
    assert.equal(fake.press({ character: 'c' }), true)
    await shown
    assert.equal(fake.isUp, false)
  })

  it('checks again at R and by itself', async () => {
    const { fake, shown, checks } = open([BAD, BAD, GOOD])
    await eventually('it is shown', () => /FAIL/.test(fake.text))
    fake.press({ character: 'R' })
    await eventually('it is checked again', () => checks() === 2)
    fake.press({ character: 'r' })
    await eventually('the link works', () => /Every link works/.test(fake.text))
    fake.press('escape')
    await shown
    const itself = open([BAD, GOOD], 10)
    await eventually('the link works', () => /Every link works/.test(itself.fake.text))
    itself.fake.press({ character: 'c' })
    await itself.shown
  })

  it('restarts at B; other keys draw the screen again', async () => {
    const { fake, shown, restarts } = open([GOOD])
    await eventually('it is shown', () => /Every link works/.test(fake.text))
    assert.equal(fake.press({ character: 'x' }), false)
    fake.press({ character: 'b' })
    assert.equal(restarts(), 1)
    fake.press({ character: 'c' })
    await shown
  })
})
