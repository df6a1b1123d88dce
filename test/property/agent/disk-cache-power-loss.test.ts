/**
 * Power is lost at every single write and sync of a cache that is filled, wraps around, and moves what
 * is held: whatever the disk has kept of what was not synced, the cache opens, gives nothing wrong, and
 * has lost no more than what came last.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { CACHE_BYTES_MIN, layoutOf, SEGMENT_BYTES } from '#agent/disk-cache/cache-layout.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import type { LogDiskCache } from '#agent/disk-cache/log-disk-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { recordUnits } from '#agent/disk-cache/record.ts'
import { readAll, type TestObject, testObject } from '#test/support/disk-cache-objects.ts'
import { PowerLossDisk, SECTOR_BYTES } from '#test/support/power-loss-disk.ts'
import { seededRandom } from '#test/support/seeded-random.ts'

const { segments } = layoutOf(CACHE_BYTES_MIN)
const CAPACITY = segments * SEGMENT_BYTES
const BUDGET = 4 * CAPACITY
const DAY_MS = 86_400_000
const ID = Buffer.from('0123456789abcdef')

/** What was not synced when power is lost: two batches of memory and two segments, index and all. */
const LOST_BYTES_MAX = 4 * SEGMENT_BYTES

/** Six segments of objects of mean size. */
const OBJECTS_NEAR = 380

interface Moment {
  /** Objects that `keep` took so far. */
  readonly kept: number
  /** Of the budget, going by what was written to the disk. */
  readonly budgetLeftBytes: number
}

interface Run {
  readonly disk: PowerLossDisk
  readonly objects: TestObject[]
  /** Before each change of the disk. */
  readonly moments: Moment[]
  readonly held: TestObject[]
  heldFromChange: number
}

async function open(disk: PowerLossDisk, now = () => 0): Promise<LogDiskCache> {
  return await openDiskCache({
    device: disk,
    onProblem: () => undefined,
    hasServer: () => true,
    now,
    flushMs: 1e9,
    budgetBytesPerDay: BUDGET,
  })
}

/** `isHolding`: of each segment of the first half a sixth is held, so that giving it up moves that. */
async function record(totalBytes: number, isHolding: boolean): Promise<Run> {
  const disk = new PowerLossDisk(CACHE_BYTES_MIN)
  await formatCache(disk, ID)
  disk.log.length = 0
  let nowMs = 0
  let cache = await open(disk, () => nowMs)
  nowMs = DAY_MS
  const run: Run = { disk, objects: [], moments: [], held: [], heldFromChange: 0 }
  disk.onChange = () => {
    const written = disk.log.reduce((sum, each) => sum + (each?.bytes.length ?? 0), 0)
    run.moments.push({ kept: run.objects.length, budgetLeftBytes: BUDGET - written })
  }
  let bytes = 0
  for (let index = 0; bytes < totalBytes; index += 1) {
    const object = testObject(index, 20_000 + ((index * 7) % 11) * 9_000)
    if (isHolding && run.held.length === 0 && bytes > CAPACITY / 2) {
      await cache.close()
      cache = await open(disk, () => nowMs)
      holdSome(cache, run)
    }
    while (cache.taking === 'later') await turn()
    if (cache.taking !== 'now') break
    if (!cache.keep(object.hash, object)) continue
    run.objects.push(object)
    bytes += recordUnits(object.payload.length) * 64
  }
  await cache.close()
  disk.onChange = () => undefined
  return run
}

function holdSome(cache: LogDiskCache, run: Run): void {
  cache.holdFromNowOn()
  run.heldFromChange = run.disk.log.length
  run.held.push(...run.objects.filter((_, at) => at % 6 === 0))
  for (const { hash } of run.held) assert.ok(cache.has(hash))
}

/** Calls `check` with the disk as it may be after each change: what is synced, and some of the rest. */
async function losePowerEverywhere(
  { disk }: Run,
  seed: number,
  check: (disk: PowerLossDisk, change: number) => Promise<void>,
): Promise<void> {
  const broken = new PowerLossDisk(CACHE_BYTES_MIN)
  await formatCache(broken, ID)
  const random = seededRandom(seed)
  const sectors = new Map<number, Buffer[]>()
  for (const [change, written] of disk.log.entries()) {
    if (written === undefined) {
      for (const [sector, versions] of sectors) {
        versions.at(-1)?.copy(broken.bytes, sector * SECTOR_BYTES)
      }
      sectors.clear()
    } else {
      for (let at = 0; at < written.bytes.length; at += SECTOR_BYTES) {
        const from = written.position + at
        const sector = from / SECTOR_BYTES
        const before = broken.bytes.subarray(from, from + SECTOR_BYTES)
        const versions = sectors.get(sector) ?? [Buffer.from(before)]
        versions.push(written.bytes.subarray(at, at + SECTOR_BYTES))
        sectors.set(sector, versions)
      }
    }
    const kind = random()
    for (const [sector, versions] of sectors) {
      // Now and then all of it, or nothing: what is torn everywhere is hardly ever whole.
      const pick = kind < 0.15 ? 0 : kind < 0.3 ? 0.999 : random()
      versions[Math.floor(pick * versions.length)]?.copy(broken.bytes, sector * SECTOR_BYTES)
    }
    await check(broken, change)
    for (const [sector, [durable]] of sectors) durable?.copy(broken.bytes, sector * SECTOR_BYTES)
  }
}

async function checkOpened(
  broken: PowerLossDisk,
  { objects, moments }: Run,
  change: number,
): Promise<LogDiskCache> {
  const moment = moments[change]
  assert.ok(moment)
  const cache = await open(broken)
  // Reading throws when one is wrong. What lies far from where it is written is looked at less often.
  const from = change % 8 === 0 ? 0 : Math.max(0, moment.kept - OBJECTS_NEAR)
  await readAll(cache, objects.slice(from, moment.kept))
  const { usedBytes, capacityBytes, writeBudgetLeftBytes } = cache.stats()
  const found = objects.filter(({ hash }) => cache.has(hash))
  const foundBytes = found.reduce((sum, { payload }) => sum + recordUnits(payload.length) * 64, 0)
  assert.equal(usedBytes, foundBytes)
  assert.ok(usedBytes <= capacityBytes)
  assert.ok(writeBudgetLeftBytes <= moment.budgetLeftBytes, 'no budget is won')
  return cache
}

describe('power loss of the disk cache', () => {
  it('a cache that wraps around gives nothing wrong and loses only the last', async () => {
    const run = await record(1.6 * CAPACITY, false)
    assert.ok(run.disk.log.length > 150, `${run.disk.log.length} changes`)
    await losePowerEverywhere(run, 1, async (broken, change) => {
      const cache = await checkOpened(broken, run, change)
      let age = 0
      for (let at = (run.moments[change]?.kept ?? 0) - 1; at >= 0; at -= 1) {
        const object = run.objects[at]
        assert.ok(object)
        age += recordUnits(object.payload.length) * 64
        if (age < LOST_BYTES_MAX) continue
        // Three segments are empty or being filled.
        if (age > CAPACITY - 4 * SEGMENT_BYTES) break
        assert.ok(cache.has(object.hash), `change ${change}: object ${at} is lost`)
      }
    })
  })

  it('what is held survives being moved, wherever power is lost', async () => {
    const run = await record(2.4 * CAPACITY, true)
    const { held } = run
    // Of what is held in the first half much has been moved by the end.
    const end = await open(run.disk)
    assert.deepEqual(
      await readAll(end, held),
      held.map(() => true),
    )
    await losePowerEverywhere(run, 3, async (broken, change) => {
      const cache = await checkOpened(broken, run, change)
      // What was written when they were held.
      if (change < run.heldFromChange) return
      for (const { hash } of held) assert.ok(cache.has(hash), `change ${change}: one is lost`)
    })
  })
})
