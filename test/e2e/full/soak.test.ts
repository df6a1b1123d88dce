/** Five minutes of `npm run soak`, and what it would say were a file not what was written. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { soak } from '#test/soak/soak.ts'
import { SoakModel } from '#test/soak/soak-model.ts'

const MINUTES = 2.5
const TIMEOUT = { timeout: 6 * MINUTES * 60_000 }

for (const place of ['ram', 'server'] as const) {
  it(
    `with a fault every few seconds every byte is there, written to ${place}`,
    TIMEOUT,
    async (test) => {
      const seed = Math.floor(Date.now() / 1000) % 1_000_000
      test.diagnostic(`seed ${seed}`)
      const { rounds, faults } = await soak({ minutes: MINUTES, place, seed })
      test.diagnostic(`${rounds} rounds with ${faults} faults`)
      assert.ok(rounds >= 5 && faults >= 10, `${rounds} rounds, ${faults} faults`)
    },
  )
}

it('the model tells other files from these', () => {
  const [one, other] = [new SoakModel(), new SoakModel()]
  assert.equal(one.runRound(7, 0), other.runRound(7, 0))
  other.files.get([...other.files.keys()][0] ?? '')?.fill(1, 0, 1)
  assert.notEqual(one.runRound(7, 1), other.runRound(7, 1))
})
