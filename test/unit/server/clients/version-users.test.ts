import assert from 'node:assert/strict'
import { it } from 'node:test'
import { LOST_BOOT_GRACE_MS, versionUsers } from '#server/clients/version-users.ts'
import type { BootRecord } from '#server/state/records.ts'

const version = { vdisk: 'debian', versionId: 'aa' }
const NOW_MS = 10 * LOST_BOOT_GRACE_MS

function boot(clientId: string, fields: Partial<BootRecord>): BootRecord {
  const record = { bootId: 'b', clientId, startedAtMs: 0, phases: [], wireBytes: 0, notices: [] }
  return { ...record, end: 'running', ...version, ...fields }
}

const users = (...boots: BootRecord[]) =>
  versionUsers(boots, version, NOW_MS).map(({ clientId, state }) => `${clientId} ${state}`)

it('versionUsers() are clients that run on the version, or whose connection was lost lately', () => {
  const lost = (agoMs: number) => ({ end: 'lost', endedAtMs: NOW_MS - agoMs }) as const
  assert.deepEqual(
    users(
      boot('a', {}),
      boot('b', lost(1)),
      boot('c', lost(LOST_BOOT_GRACE_MS - 1)),
      boot('d', lost(LOST_BOOT_GRACE_MS)),
      boot('e', { end: 'poweroff', endedAtMs: NOW_MS }),
      boot('f', { versionId: 'bb' }),
      boot('g', { vdisk: 'ubuntu' }),
    ),
    ['a running', 'b lost', 'c lost'],
  )
})

it('versionUsers() takes a boot for over once the same client boots again', () => {
  const lost = boot('a', { end: 'lost', endedAtMs: NOW_MS })
  assert.deepEqual(users(lost, boot('a', { versionId: 'bb' })), [])
  const { versionId: _, vdisk: __, ...begun } = boot('a', {})
  assert.deepEqual(users(lost, begun), [], 'also before it opened anything')
  assert.deepEqual(users(boot('a', { versionId: 'bb' }), lost), ['a lost'])
})
