/** What administration does to a client's record. Pure: a record goes in, the changed one comes out. */

import type { ClientRecord } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'
import { ASSIGNMENTS_MAX } from '#shared/wire/limits.ts'

export function withAssignments(
  client: ClientRecord,
  vdisks: readonly string[],
  options: { readonly only: boolean },
): ClientRecord {
  const before = options.only ? [] : client.assignments
  const assignments = [...new Set([...before, ...vdisks])]
  if (assignments.length > ASSIGNMENTS_MAX) {
    throw new BootwireError(
      'LIMIT_EXCEEDED',
      `Cannot assign ${assignments.length} vDisks to client "${client.hostname}": at most ${ASSIGNMENTS_MAX} fit its menu`,
    )
  }
  return withValidChoice({ ...client, assignments })
}

export function withoutAssignments(client: ClientRecord, vdisks: readonly string[]): ClientRecord {
  const assignments = client.assignments.filter((name) => !vdisks.includes(name))
  return withValidChoice({ ...client, assignments })
}

/** Forgets the last choice when it is not assigned any more. */
function withValidChoice(client: ClientRecord): ClientRecord {
  const { lastChoice, ...rest } = client
  return lastChoice !== undefined && client.assignments.includes(lastChoice) ? client : rest
}
