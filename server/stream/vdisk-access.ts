/** Which vDisks a client is offered, and which it gets when it asks. */

import { versionToBoot } from '#server/clients/version-to-boot.ts'
import type { BootRecord, ClientRecord, VersionRecord } from '#server/state/records.ts'
import { productionOf, type VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Offer } from '#shared/wire/messages.ts'

export interface OpenRequest {
  readonly vdisk: string
  /** Absent for the version in production. */
  readonly versionId: string | undefined
}

/** Returns the client's assignments as lines of its menu; vDisks that are gone are left out. */
export async function offersFor(
  client: ClientRecord,
  catalog: Pick<VDiskCatalog, 'tryGet'>,
): Promise<Offer[]> {
  const vdisks = await Promise.all(client.assignments.map((name) => catalog.tryGet(name)))
  return vdisks.flatMap((vdisk) => {
    const version = vdisk && productionOf(vdisk)
    if (vdisk === undefined || version === undefined) return []
    const { name, title } = vdisk.record
    return [{ vdisk: name, title, sizeBytes: version.sizeBytes }]
  })
}

/**
 * Returns the version a client gets. What this boot had open already it gets again, whatever was
 * changed since: a root runs on it.
 * @throws {BootwireError} CLIENT_PENDING, CLIENT_REFUSED, VDISK_GONE
 */
export async function permittedVersion(
  { vdisk, versionId }: OpenRequest,
  client: ClientRecord | undefined,
  boot: BootRecord,
  catalog: Pick<VDiskCatalog, 'tryGet' | 'version'>,
): Promise<VersionRecord> {
  const hadIt = versionId !== undefined && boot.versionId === versionId && boot.vdisk === vdisk
  if (!hadIt) assertMayOpen(client, vdisk)
  const version =
    versionId === undefined
      ? await versionToBoot(client, vdisk, catalog)
      : await catalog.version(vdisk, versionId)
  if (version === undefined) throw vdiskGone(vdisk)
  return version
}

function assertMayOpen(client: ClientRecord | undefined, vdisk: string): void {
  if (client?.state === 'pending') {
    throw new BootwireError(
      'CLIENT_PENDING',
      `Cannot open vDisk "${vdisk}": client ${client.id} is not approved yet`,
    )
  }
  if (client?.state === 'refused') {
    throw new BootwireError(
      'CLIENT_REFUSED',
      `Cannot open vDisk "${vdisk}": this client is refused`,
    )
  }
  if (client === undefined || !client.assignments.includes(vdisk)) throw vdiskGone(vdisk)
}

export function vdiskGone(vdisk: string): BootwireError {
  return new BootwireError(
    'VDISK_GONE',
    `Cannot open vDisk "${vdisk}": it is not there, or not assigned to this client any more`,
  )
}
