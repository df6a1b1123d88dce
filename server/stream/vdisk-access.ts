/** Which vDisks a client is offered, and which it gets when it asks. */

import { versionToBoot } from '#server/clients/version-to-boot.ts'
import type { BootRecord, ClientRecord, VDiskRecord, VersionRecord } from '#server/state/records.ts'
import { productionOf, type VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Offer } from '#shared/wire/messages.ts'

export interface OpenRequest {
  readonly vdisk: string
  /** Absent for the version in production. */
  readonly versionId: string | undefined
}

/** How far a machine is believed. */
export interface Trust {
  /** It has proven by its key that it is its client. */
  readonly isAuthenticated: boolean
  /** The vDisk that whoever comes is given (`--unknown-clients vdisk:NAME`). */
  readonly vdiskForAnyone: string | undefined
}

/** What a client's menu has. */
export interface Offers {
  readonly offers: readonly Offer[]
  /** How many of its assignments are only for machines that prove who they are, which it has not. */
  readonly withheld: number
}

/** Returns the client's assignments as lines of its menu; vDisks that are gone are left out. */
export async function offersFor(
  client: ClientRecord,
  trust: Trust,
  catalog: Pick<VDiskCatalog, 'tryGet'>,
): Promise<Offers> {
  const vdisks = await Promise.all(client.assignments.map((name) => catalog.tryGet(name)))
  const there = vdisks.filter((vdisk) => vdisk !== undefined)
  const open = there.filter(({ record }) => mayHave(record, trust))
  const offers = open.flatMap((vdisk) => {
    const version = productionOf(vdisk)
    const { name, title } = vdisk.record
    return version === undefined ? [] : [{ vdisk: name, title, sizeBytes: version.sizeBytes }]
  })
  return { offers, withheld: there.length - open.length }
}

function mayHave({ name, access }: VDiskRecord, trust: Trust): boolean {
  return trust.isAuthenticated || access === 'anyone' || name === trust.vdiskForAnyone
}

/**
 * Returns the version a client gets. What this boot had open already it gets again, whatever was
 * changed since: a root runs on it.
 * @throws {BootwireError} CLIENT_PENDING, CLIENT_REFUSED, NOT_AUTHENTICATED, VDISK_GONE
 */
export async function permittedVersion(
  { vdisk, versionId }: OpenRequest,
  { client, trust }: { readonly client: ClientRecord | undefined; readonly trust: Trust },
  boot: BootRecord,
  catalog: Pick<VDiskCatalog, 'tryGet' | 'version'>,
): Promise<VersionRecord> {
  const hadIt = versionId !== undefined && boot.versionId === versionId && boot.vdisk === vdisk
  if (!hadIt) {
    assertMayOpen(client, vdisk)
    const found = await catalog.tryGet(vdisk)
    if (found !== undefined && !mayHave(found.record, trust)) throw notAuthenticated(vdisk)
  }
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

function notAuthenticated(vdisk: string): BootwireError {
  return new BootwireError(
    'NOT_AUTHENTICATED',
    `Cannot open vDisk "${vdisk}": it is only for machines that prove who they are, and this one has not`,
  )
}

export function vdiskGone(vdisk: string): BootwireError {
  return new BootwireError(
    'VDISK_GONE',
    `Cannot open vDisk "${vdisk}": it is not there, or not assigned to this client any more`,
  )
}
