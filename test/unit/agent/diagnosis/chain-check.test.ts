import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  checkChain,
  firstBroken,
  LINK_NAMES,
  type LinkName,
  type ProbeResult,
  type Probes,
} from '#agent/diagnosis/chain-check.ts'
import { hasNeighbour } from '#agent/diagnosis/network-probes.ts'
import { BootwireError } from '#shared/errors.ts'

const GOOD: ProbeResult = { state: 'good', text: 'well' }

const probesWith = (broken: Partial<Record<LinkName, () => Promise<ProbeResult>>>): Probes =>
  ({
    ...Object.fromEntries(LINK_NAMES.map((name) => [name, async () => GOOD])),
    ...broken,
  }) as Probes

const fails = async (): Promise<ProbeResult> => {
  throw new BootwireError('NO_NETWORK', 'broken')
}

/** What cannot be tried when a link is broken. */
const BEHIND: Readonly<Record<LinkName, readonly LinkName[]>> = {
  link: LINK_NAMES.slice(1),
  DHCP: LINK_NAMES.slice(2),
  gateway: [],
  DNS: [],
  server: ['TLS', 'clock', 'identity', 'assignment', 'stream'],
  TLS: ['clock', 'identity', 'assignment', 'stream'],
  clock: [],
  identity: ['assignment'],
  assignment: [],
  stream: [],
}

describe('checkChain()', () => {
  for (const name of LINK_NAMES) {
    it(`blames ${name} alone when it is broken`, async () => {
      const reports = await checkChain(probesWith({ [name]: fails }))
      assert.equal(firstBroken(reports)?.name, name)
      for (const report of reports) {
        const isBehind = BEHIND[name].includes(report.name)
        const expected = report.name === name ? 'bad' : isBehind ? 'untested' : 'good'
        assert.equal(report.state, expected, report.name)
      }
    })
  }

  it('tells of each result as it comes, and all in their order', async () => {
    const seen: string[] = []
    await checkChain(
      probesWith({ DNS: async () => ({ state: 'note', text: 'slow' }) }),
      (reports) => {
        assert.deepEqual(
          reports.map(({ name }) => name),
          LINK_NAMES,
        )
        seen.push(reports.map(({ state }) => state[0]).join(''))
      },
    )
    assert.equal(seen[0], 't'.repeat(10))
    assert.equal(seen.at(-1), 'gggngggggg')
    assert.equal(seen.length, 11)
  })

  it('takes a probe that fails otherwise for a broken link', async () => {
    const reports = await checkChain(
      probesWith({ server: () => Promise.reject(new Error('surprise')) }),
    )
    assert.equal(firstBroken(reports)?.error.number, 'BW-E999')
  })
})

it('hasNeighbour() takes only those that have answered', () => {
  const table = `IP address       HW type     Flags       HW address            Mask     Device
10.0.2.2         0x1         0x2         52:55:0a:00:02:02     *        card
10.0.2.3         0x1         0x0         00:00:00:00:00:00     *        card
`
  assert.equal(hasNeighbour(table, '10.0.2.2'), true)
  assert.equal(hasNeighbour(table, '10.0.2.3'), false)
  assert.equal(hasNeighbour(table, '10.0.2.4'), false)
})
