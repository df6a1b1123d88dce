/**
 * A write area against a list of its caches: power is lost in any change, and what is found is as before
 * it or as after it.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { AREA_BYTES_MIN, EXTENT_BYTES } from '#agent/write-area/area-layout.ts'
import { formatArea, WriteArea } from '#agent/write-area/write-area.ts'
import { PowerLossDisk, PowerLost } from '#test/support/power-loss-disk.ts'
import { seededRandom } from '#test/support/seeded-random.ts'

const EXTENTS = 4
const BOOTS = ['b0', 'b1'].map((it) => it.repeat(16))

const step = fc.record({
  kind: fc.constantFrom('claim', 'grow', 'grow', 'drop'),
  version: fc.constantFrom('aa', 'bb', 'cc'),
  boot: fc.constantFrom(...BOOTS, undefined),
  /** Changes of the disk until power is lost; absent when it is not. */
  powerFor: fc.option(fc.nat(3), { freq: 2 }),
})

async function apply(
  area: WriteArea,
  { kind, version, boot }: { kind: string; version: string; boot: string | undefined },
): Promise<void> {
  const key = {
    vdisk: `vdisk-${version}`,
    versionId: version,
    sizeBytes: 1e9,
    ...(boot !== undefined && { bootId: boot }),
  }
  const isThere = area.caches.some((it) => it.versionId === version && it.bootId === boot)
  if (kind === 'claim') await area.claim(key, 0)
  else if (!isThere) return
  else if (kind === 'grow') await area.grow(key)
  else await area.drop(key)
}

it('a write area that loses power in a change is as before or as after it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 12 }),
      fc.integer(),
      async (steps, seed) => {
        const random = seededRandom(seed)
        const disk = new PowerLossDisk(AREA_BYTES_MIN + (EXTENTS - 2) * EXTENT_BYTES)
        await formatArea(disk, Buffer.alloc(16, 'i'))
        let area = await WriteArea.open(disk)
        for (const each of steps) {
          const before = area.caches
          let left = each.powerFor ?? Number.POSITIVE_INFINITY
          disk.onChange = () => {
            if (left <= 0) disk.losePower()
            left -= 1
            if (left < 0) throw new PowerLost('the disk has no power')
          }
          const isLost = await apply(area, each).then(
            () => false,
            (error: unknown) => {
              if (error instanceof PowerLost) return true
              assert.match(String(error), /Cannot make a write cache/)
              return false
            },
          )
          disk.onChange = () => undefined
          if (!isLost) continue
          disk.restart(random)
          area = await WriteArea.open(disk)
          const found = JSON.stringify(area.caches)
          if (found === JSON.stringify(before)) continue
          // Made again on what was before, it comes to what was found.
          const other = new PowerLossDisk(disk.sizeBytes)
          disk.bytes.copy(other.bytes)
          const twin = await WriteArea.open(other)
          assert.notEqual(twin.caches.length + before.length, 0)
          if (each.kind === 'claim') await apply(twin, each)
          if (each.kind === 'claim') assert.equal(JSON.stringify(twin.caches), found)
          else assert.ok(Math.abs(countOf(twin) - sum(before)) <= EXTENTS)
        }
        const opened = await WriteArea.open(disk)
        assert.deepEqual(opened.caches, area.caches)
        const extents = opened.caches.flatMap(({ table, data }) => [...table, ...data])
        assert.equal(new Set(extents).size, extents.length, 'no extent is two caches’')
      },
    ),
    { numRuns: 60 },
  )
})

function countOf(area: WriteArea): number {
  return sum(area.caches)
}

function sum(caches: WriteArea['caches']): number {
  return caches.reduce((all, { table, data }) => all + table.length + data.length, 0)
}
