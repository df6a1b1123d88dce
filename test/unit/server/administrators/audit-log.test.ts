import assert from 'node:assert/strict'
import { appendFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { type AuditEntry, AuditLog } from '#server/administrators/audit-log.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const entry = (number: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  at: new Date(number * 1000).toISOString(),
  by: 'local:root',
  role: 'owner',
  action: `step ${number}`,
  outcome: 'done',
  ...more,
})

const actions = (entries: readonly AuditEntry[]) => entries.map(({ action }) => action)

it('gives back what was written, the last first, also after a restart', async () => {
  await using folder = await createTemporaryFolder()
  const first = await AuditLog.open(folder.path)
  await Promise.all([1, 2, 3].map((number) => first.append(entry(number))))
  await first.close()
  const second = await AuditLog.open(folder.path)
  await second.append(entry(4, { by: 'eve', subject: 'client-1' }))
  assert.deepEqual(actions(await second.list({ limit: 3 })), ['step 4', 'step 3', 'step 2'])
  assert.deepEqual(actions(await second.list({ limit: 9, by: 'eve' })), ['step 4'])
  assert.deepEqual(actions(await second.list({ limit: 9, subject: 'client-1' })), ['step 4'])
  assert.equal((await stat(join(folder.path, 'audit.jsonl'))).mode & 0o777, 0o600)
  await second.close()
})

it('half a line that a crash left costs no other line', async () => {
  await using folder = await createTemporaryFolder()
  const first = await AuditLog.open(folder.path)
  await first.append(entry(1))
  await first.close()
  await appendFile(join(folder.path, 'audit.jsonl'), '{"at":"2026')
  const second = await AuditLog.open(folder.path)
  await second.append(entry(2))
  assert.deepEqual(actions(await second.list({ limit: 9 })), ['step 2', 'step 1'])
  await second.close()
})

it('keeps so many files of such a size, and lets the oldest go', async () => {
  await using folder = await createTemporaryFolder()
  const log = await AuditLog.open(folder.path, { fileBytesMax: 400, filesMax: 3 })
  for (let number = 1; number <= 40; number += 1) await log.append(entry(number))
  const files = await readdir(folder.path)
  assert.deepEqual(files.toSorted(), ['audit-1.jsonl', 'audit-2.jsonl', 'audit.jsonl'])
  const kept = actions(await log.list({ limit: 100 }))
  const expected = Array.from({ length: kept.length }, (_, index) => `step ${40 - index}`)
  assert.deepEqual(kept, expected, 'without a gap')
  assert.ok(kept.length >= 6 && kept.length < 20)
  await log.close()
})
