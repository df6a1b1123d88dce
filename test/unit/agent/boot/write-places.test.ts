import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { chooseWritePlaces, describePlaces, SYSTEM_BYTES_MIN } from '#agent/boot/write-places.ts'
import { RAM_TIER_BYTES_DEFAULT, RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import { GiB, MiB } from '#shared/units.ts'
import type { WriteCacheSettings } from '#shared/wire/messages.ts'

const AUTO: WriteCacheSettings = { place: 'auto', isKept: false, limitBytes: 0 }
const room = (memoryBytes: number, areaBytes?: number) => ({
  memoryBytes,
  ramTierBytes: RAM_TIER_BYTES_DEFAULT,
  hasServer: false,
  ...(areaBytes !== undefined && { areaBytes }),
})

describe('chooseWritePlaces', () => {
  it('takes half of what memory the system can spare, and then the write area', () => {
    const places = chooseWritePlaces(AUTO, room(2 * GiB, 8 * GiB))
    assert.deepEqual(places, {
      ramTierBytes: RAM_TIER_BYTES_DEFAULT,
      ramBytes: (2 * GiB - SYSTEM_BYTES_MIN - RAM_TIER_BYTES_DEFAULT) / 2,
      diskBytes: 8 * GiB,
      isKept: false,
    })
    assert.equal(
      describePlaces(places, 2 * GiB),
      '2.00 GiB of memory are free: 64.0 MiB to read ahead; what is written has 928.0 MiB in memory, then 8.00 GiB on the local disk',
    )
  })

  it('leaves the disk alone when memory is the only place', () => {
    const { diskBytes } = chooseWritePlaces({ ...AUTO, place: 'ram' }, room(2 * GiB, 8 * GiB))
    assert.equal(diskBytes, 0)
  })

  it('keeps within the limit, memory first', () => {
    const limited = { ...AUTO, limitBytes: GiB }
    const { ramBytes, diskBytes } = chooseWritePlaces(limited, room(2 * GiB, 8 * GiB))
    assert.equal(ramBytes + diskBytes, GiB)
    assert.deepEqual(chooseWritePlaces({ ...AUTO, limitBytes: 10 * MiB }, room(2 * GiB)), {
      ramTierBytes: RAM_TIER_BYTES_DEFAULT,
      ramBytes: 10 * MiB,
      diskBytes: 0,
      isKept: false,
    })
  })

  it('has nothing in memory when it shall be on the disk, and refuses to boot without one', () => {
    const onDisk: WriteCacheSettings = { place: 'disk', isKept: true, limitBytes: 0 }
    const places = chooseWritePlaces(onDisk, room(2 * GiB, 8 * GiB))
    assert.deepEqual([places.ramBytes, places.diskBytes, places.isKept], [0, 8 * GiB, true])
    assert.match(
      describePlaces(places, GiB),
      /8\.00 GiB on the local disk, kept for the next boot$/,
    )
    assert.throws(() => chooseWritePlaces(onDisk, room(2 * GiB)), { code: 'WRITE_PLACE_MISSING' })
  })

  it('shrinks the RAM cache on a small machine, and says so when it is too small', () => {
    const small = chooseWritePlaces(AUTO, room(350 * MiB))
    assert.ok(small.ramTierBytes < RAM_TIER_BYTES_DEFAULT)
    assert.ok(small.ramTierBytes >= RAM_TIER_BYTES_MIN)
    for (const memoryBytes of [10 * MiB, SYSTEM_BYTES_MIN, SYSTEM_BYTES_MIN + 40 * MiB]) {
      assert.throws(() => chooseWritePlaces(AUTO, room(memoryBytes)), {
        code: 'CLIENT_MEMORY',
        message: /Cannot boot: [\d.]+ MiB of memory are free, and at least [\d.]+ MiB are needed/,
      })
    }
    // With a write area it works.
    chooseWritePlaces(AUTO, room(SYSTEM_BYTES_MIN + 40 * MiB, GiB))
  })
})
