import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  chooseClient,
  compareFacts,
  factsFromBoot,
  isAnonymous,
  mergeFacts,
  normalizeMac,
  usableFacts,
} from '#server/clients/client-matching.ts'
import type { ClientRecord } from '#server/state/records.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'

const MAC_A = '52:54:00:00:00:0a'
const MAC_B = '52:54:00:00:00:0b'
const UUID_A = 'aaaaaaaa-1111-4222-8333-444444444444'
const UUID_B = 'bbbbbbbb-1111-4222-8333-444444444444'
const off = () => false
const running = () => true

function client(
  id: string,
  macs: string[],
  uuid?: string,
  serials: Partial<MachineFacts> = {},
): ClientRecord {
  return {
    id,
    state: 'approved',
    hostname: id,
    machineId: '0'.repeat(32),
    facts: { macs, ...(uuid !== undefined && { uuid }), ...serials },
    assignments: [],
    firstSeenMs: 0,
    lastSeenMs: 0,
  }
}

/** `same a`, `unsure a` or `new`. */
function choice(facts: MachineFacts, candidates: ClientRecord[], isRunning = off): string {
  const match = chooseClient(facts, candidates, isRunning)
  return match === undefined ? 'new' : `${match.kind} ${match.client.id}`
}

describe('chooseClient()', () => {
  const serial = { systemSerial: 'S1', boardSerial: 'B1' }

  it('knows the client by its MAC, also when one side has no UUID', () => {
    assert.equal(choice({ macs: [MAC_A] }, [client('a', [MAC_A], UUID_A)], running), 'same a')
    assert.equal(choice({ macs: [MAC_A], uuid: UUID_A }, [client('a', [MAC_A])]), 'same a')
  })

  it('takes what is more alike, and a MAC before a UUID alone', () => {
    const byMac = client('a', [MAC_A])
    const byUuid = client('b', [MAC_B], UUID_B)
    assert.equal(choice({ macs: [MAC_A], uuid: UUID_B }, [byMac, byUuid]), 'same a')
    const both = client('c', [MAC_B], UUID_B)
    assert.equal(choice({ macs: [MAC_A, MAC_B], uuid: UUID_B }, [byMac, both]), 'same c')
  })

  it('takes an adapter that moved to another machine for no sign', () => {
    assert.equal(choice({ macs: [MAC_A], uuid: UUID_B }, [client('a', [MAC_A], UUID_A)]), 'new')
  })

  it('is unsure of a changed network card, and of a clone; one of a running client is new', () => {
    const known = client('a', [MAC_A], UUID_A)
    assert.equal(choice({ macs: [MAC_B], uuid: UUID_A }, [known]), 'unsure a')
    assert.equal(choice({ macs: [MAC_B], uuid: UUID_A }, [known], running), 'new')
  })

  it('is unsure of a changed board in the same case', () => {
    const known = client('a', [MAC_A], UUID_A, serial)
    const other = { macs: [MAC_A], uuid: UUID_B, systemSerial: 'S1', boardSerial: 'B1' }
    assert.equal(choice(other, [known]), 'unsure a')
  })

  it('is unsure of a MAC in a machine with another serial', () => {
    const known = client('a', [MAC_A], undefined, { systemSerial: 'S1' })
    assert.equal(choice({ macs: [MAC_A], systemSerial: 'S2' }, [known]), 'unsure a')
  })

  it('of a machine without MACs the UUID is enough', () => {
    assert.equal(choice({ macs: [], uuid: UUID_A }, [client('a', [MAC_A], UUID_A)]), 'same a')
  })

  it('says what speaks for it and against it', () => {
    const known = client('a', [MAC_A], UUID_A, serial)
    const { score, reasons } = compareFacts(known.facts, {
      macs: [MAC_B],
      uuid: UUID_A,
      systemSerial: 'S1',
      boardSerial: 'B2',
    })
    assert.deepEqual(reasons, [
      'other MAC (0)',
      'same UUID (+4)',
      'same system serial (+3)',
      'other board serial (-2)',
    ])
    assert.equal(score, 5)
  })
})

describe('usableFacts()', () => {
  it('drops placeholders, which identify nobody', () => {
    const facts = usableFacts({
      macs: ['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', MAC_A, MAC_A],
      uuid: '03000200-0400-0500-0006-000700080009',
      systemSerial: 'To Be Filled By O.E.M.',
      boardSerial: 'None',
      product: 'X1',
    })
    assert.deepEqual(facts, { macs: [MAC_A], product: 'X1' })
  })

  it('drops all-zero and all-FF UUIDs and keeps real ones in lower case', () => {
    const uuidOf = (uuid: string) => usableFacts({ macs: [], uuid }).uuid
    assert.equal(uuidOf('00000000-0000-0000-0000-000000000000'), undefined)
    assert.equal(uuidOf('FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'), undefined)
    assert.equal(uuidOf(UUID_A.toUpperCase()), UUID_A)
  })
})

it('factsFromBoot() reads MACs in the forms of iPXE and leaves out what is none', () => {
  assert.deepEqual(factsFromBoot({ mac: '52-54-00-00-00-0A' }).macs, [MAC_A])
  assert.deepEqual(factsFromBoot({ mac: '${net0/mac}', uuid: '' }), { macs: [] })
  assert.deepEqual(factsFromBoot({ uuid: 'x'.repeat(200), serial: 'S1' }), {
    macs: [],
    systemSerial: 'S1',
  })
})

it('normalizeMac() returns undefined for what is no MAC', () => {
  for (const text of ['', '52:54:00:00:00', '52:54:00:00:00:0g', 'client-1', '525400000a']) {
    assert.equal(normalizeMac(text), undefined, text)
  }
})

it('isAnonymous() is true when only facts that many machines share are there', () => {
  assert.ok(isAnonymous({ macs: [], systemSerial: 'S1' }))
  assert.ok(!isAnonymous({ macs: [MAC_A] }))
  assert.ok(!isAnonymous({ macs: [], uuid: UUID_A }))
})

it('mergeFacts() keeps MACs known from earlier boots behind the reported ones, bounded', () => {
  const known = { macs: [MAC_A, MAC_B], uuid: UUID_A, product: 'X1' }
  const merged = mergeFacts(known, { macs: [MAC_B] })
  assert.deepEqual(merged, { macs: [MAC_B, MAC_A], uuid: UUID_A, product: 'X1' })
  const many = Array.from(
    { length: 32 },
    (_, n) => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`,
  )
  assert.deepEqual(mergeFacts(known, { macs: many }).macs, many)
})
