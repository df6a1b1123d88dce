/**
 * Which version of a vDisk the next boots get, and which they got before. Pure: a record goes in, the
 * changed one comes out.
 */
import type { ProductionChange, VDiskRecord, VersionRecord } from '#server/state/records.ts'

/** Changes kept: a year of a vDisk that is updated twice a week. */
const HISTORY_MAX = 100

/** Returns the record with this version in production, unchanged when it is already. */
export function withProduction(
  record: VDiskRecord,
  { versionId, number }: Pick<VersionRecord, 'versionId' | 'number'>,
  change: Pick<ProductionChange, 'by' | 'atMs'>,
): VDiskRecord {
  if (record.productionVersionId === versionId) return record
  const history = [...record.history, { versionId, number, ...change }].slice(-HISTORY_MAX)
  return { ...record, productionVersionId: versionId, history }
}

/**
 * Returns the version that was in production before the present one was promoted: rolling back again
 * and again goes further back each time, as from 3 to 2 to 1. Versions that are removed are passed over.
 */
export function rollbackTarget(
  { history, productionVersionId }: VDiskRecord,
  versions: readonly VersionRecord[],
): VersionRecord | undefined {
  const promotedAt = history.findLastIndex(
    ({ versionId, by }) => versionId === productionVersionId && by !== 'rollback',
  )
  const before = history.slice(0, Math.max(0, promotedAt)).toReversed()
  const found = before
    .filter(({ versionId }) => versionId !== productionVersionId)
    .map(({ versionId }) => versions.find((version) => version.versionId === versionId))
  return found.find((version) => version !== undefined)
}
