/** What a vDisk is to those who work with its versions, and what an import brings for one. */
import type { KernelRecord, VDiskRecord, VersionRecord } from '#server/state/records.ts'
import type { CommittedVersion } from '#server/store/chunk-store.ts'
import type { RootLocation } from '#shared/wire/messages.ts'

/** Whom a vDisk is given to: to anyone, or to machines that prove by a key who they are. */
export type VDiskAccess = 'anyone' | 'authenticated'

export function withAccess(record: VDiskRecord, access: VDiskAccess): VDiskRecord {
  const { access: _, ...rest } = record
  return access === 'anyone' ? { ...rest, access } : rest
}

/** A vDisk with its versions, newest first. */
export interface VDisk {
  readonly record: VDiskRecord
  readonly versions: readonly VersionRecord[]
}

/** What an import produced, and the name it shall have. */
export interface NewVersion {
  readonly name: string
  /** Line of the boot menu; absent to leave it, for a new vDisk its name. */
  readonly title?: string
  readonly committed: CommittedVersion
  readonly root: RootLocation
  readonly osName: string
  readonly kernel?: KernelRecord
  /** Whom the vDisk is given to; absent to leave it, for a new one machines that prove who they are. */
  readonly access?: VDiskAccess
  /** The next boots get it, also when it is not the first version. */
  readonly promote?: boolean
}
