/** Where an imported version goes: a new vDisk, the next version of one, or one that is there already. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { VDiskRecord, VersionRecord } from '#server/state/records.ts'
import { withProduction } from './production-history.ts'
import { type NewVersion, type VDisk, withAccess } from './vdisk.ts'

/**
 * `created`: a new vDisk. `added`: the next version. `unchanged`: the same image is a version already.
 * `updated`: so it is, but its root or kernel was found elsewhere this time.
 */
export type ImportOutcome = 'created' | 'added' | 'unchanged' | 'updated'

export interface PlacedVersion {
  readonly record: VDiskRecord
  readonly version: VersionRecord
  readonly outcome: ImportOutcome
  /** False when there is nothing to write. */
  readonly changed: boolean
}

export function placeVersion(
  vdisk: VDisk | undefined,
  imported: NewVersion,
  nowMs: number,
): PlacedVersion {
  if (vdisk === undefined) return created(imported, nowMs)
  const { versionId } = imported.committed
  const known = vdisk.versions.find((version) => version.versionId === versionId)
  const before = vdisk.record
  const named = imported.title === undefined ? before : { ...before, title: imported.title }
  const titled = imported.access === undefined ? named : withAccess(named, imported.access)
  const version = known === undefined ? next(vdisk, imported, nowMs) : again(known, imported)
  const numbered = known === undefined ? { ...titled, nextNumber: version.number + 1 } : titled
  const record =
    imported.promote === true
      ? withProduction(numbered, version, { by: 'promote', atMs: nowMs })
      : numbered
  const isSame = known !== undefined && isDeepStrictEqual(version, known)
  return {
    record,
    version,
    outcome: known === undefined ? 'added' : isSame ? 'unchanged' : 'updated',
    changed: !isSame || !isDeepStrictEqual(record, before),
  }
}

function created(imported: NewVersion, nowMs: number): PlacedVersion {
  const { name, title = name } = imported
  const version = versionRecord(imported, 1, nowMs)
  const { versionId, number } = version
  const history = [{ versionId, number, atMs: nowMs, by: 'import' as const }]
  const record: VDiskRecord = {
    name,
    title,
    createdAtMs: nowMs,
    productionVersionId: versionId,
    history,
    nextNumber: number + 1,
    ...(imported.access === 'anyone' && { access: 'anyone' }),
  }
  return { record, version, outcome: 'created', changed: true }
}

function next({ record }: VDisk, imported: NewVersion, nowMs: number): VersionRecord {
  return versionRecord(imported, record.nextNumber, nowMs)
}

/** The bytes are the same; what was found in them may not be, by `--root-partition` or a newer server. */
function again(known: VersionRecord, imported: NewVersion): VersionRecord {
  const { storedBytes, sharedBytes, number, createdAtMs } = known
  return { ...versionRecord(imported, number, createdAtMs), storedBytes, sharedBytes }
}

function versionRecord(imported: NewVersion, number: number, createdAtMs: number): VersionRecord {
  const { name, committed, root, osName, kernel } = imported
  const { versionId, sizeBytes, storedBytes, sharedBytes } = committed
  return {
    versionId,
    sizeBytes,
    storedBytes,
    sharedBytes,
    vdisk: name,
    number,
    createdAtMs,
    root,
    osName,
    ...(kernel !== undefined && { kernel }),
  }
}
