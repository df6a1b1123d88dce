/** A store killed, or without power, at every step of everything that changes it. */
import assert from 'node:assert/strict'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { KilledDisk } from '#test/support/killed-disk.ts'
import { leaveBehind, type PowerLoss, RecordedDisk } from '#test/support/recorded-disk.ts'
import { openStore, openTemporaryStore } from '#test/support/store-fixture.ts'
import {
  assertWhole,
  IMAGES,
  type ImageName,
  prepareStore,
  rememberId,
  SCENARIOS,
  type StoreScenario,
} from '#test/support/store-scenarios.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

/** No change takes as many. */
const STEPS_MAX = 200

before(async () => {
  await using opened = await openTemporaryStore()
  for (const name of Object.keys(IMAGES) as ImageName[]) await rememberId(name, opened.store)
})

describe('ContentStore killed at any step of', () => {
  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      await using prepared = await prepare(scenario)
      let calls = 0
      for (; calls < STEPS_MAX; calls += 1) {
        const folder = join(prepared.path, `run-${calls}`)
        await cp(prepared.base, folder, { recursive: true })
        const disk = new KilledDisk(calls)
        await changeUntilKilled(folder, scenario, disk)
        await assertWhole(folder, scenario, prepared.versions, !disk.isKilled)
        if (!disk.isKilled) break
      }
      assert.ok(calls > 3 && calls < STEPS_MAX, `${calls} steps`)
    })
  }
})

describe('ContentStore without power after any step of', () => {
  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      await using prepared = await prepare(scenario)
      const run = join(prepared.path, 'run')
      await cp(prepared.base, run, { recursive: true })
      const disk = new RecordedDisk(run)
      const store = await openStore(run, disk)
      await scenario.change(store)
      await store.close()
      for (let steps = 0; steps <= disk.steps.length; steps += 1) {
        for (const [index, loss] of lossesAt(steps).entries()) {
          const folder = join(prepared.path, `left-${steps}-${index}`)
          await leaveBehind(prepared.base, disk.steps, loss, folder)
          const isDone = steps === disk.steps.length
          await assertWhole(folder, scenario, prepared.versions, isDone)
        }
      }
    })
  }
})

async function prepare(scenario: StoreScenario) {
  const temporary = await createTemporaryFolder()
  const base = join(temporary.path, 'base')
  await prepareStore(base, scenario)
  const store = await openStore(base)
  const versions = await store.listVersions()
  await store.close()
  return {
    path: temporary.path,
    base,
    versions,
    [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose](),
  }
}

async function changeUntilKilled(
  folder: string,
  { change }: StoreScenario,
  disk: KilledDisk,
): Promise<void> {
  try {
    const store = await openStore(folder, disk)
    try {
      await change(store)
    } finally {
      await store.close()
    }
  } catch (error) {
    if (!disk.isKilled) throw error
  }
}

/** What was not synced is gone; there, but for its data; there; or some of it. */
function lossesAt(steps: number): PowerLoss[] {
  const random = pseudoRandom(steps)
  return [
    { steps, keptNames: () => 0, data: () => 'lost' },
    { steps, keptNames: (count) => count, data: () => 'lost' },
    { steps, keptNames: (count) => count, data: () => 'garbage' },
    {
      steps,
      keptNames: (count) => random() % (count + 1),
      data: () => (['kept', 'lost', 'garbage'] as const)[random() % 3] ?? 'lost',
    },
  ]
}

function pseudoRandom(seed: number): () => number {
  let state = seed + 1
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state >>> 8
  }
}
