/** Which version of a vDisk the next boot of a client gets. */
import type { ClientRecord, VersionRecord } from '#server/state/records.ts'
import { productionOf, type VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { writeCacheOf } from './write-cache-settings.ts'

/**
 * The one in production, unless the client keeps what it wrote over another one. Undefined when the vDisk is
 * not there.
 */
export async function versionToBoot(
  client: Pick<ClientRecord, 'keptVersions' | 'writeCache'> | undefined,
  vdisk: string,
  catalog: Pick<VDiskCatalog, 'tryGet'>,
): Promise<VersionRecord | undefined> {
  const found = await catalog.tryGet(vdisk)
  if (found === undefined) return undefined
  const keptId = client?.keptVersions?.[vdisk]
  const isKept = keptId !== undefined && writeCacheOf(client, found.record).isKept
  const kept = isKept ? found.versions.find(({ versionId }) => versionId === keptId) : undefined
  return kept ?? productionOf(found)
}
