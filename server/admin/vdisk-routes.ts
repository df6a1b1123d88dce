/** Administration of vDisks. */

import type * as v from 'valibot'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import type { Log } from '#server/log.ts'
import type { ClientRecord, KernelRecord } from '#server/state/records.ts'
import type { CommittedVersion } from '#server/store/chunk-store.ts'
import type { OpenVersions } from '#server/stream/open-versions.ts'
import type { VDisk, VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import {
  type ImportProgress,
  type ImportResult,
  importRequestSchema,
  type VDiskView,
} from './admin-api.ts'
import { parseBody } from './request-body.ts'
import type { Route, RouteRequest } from './router.ts'

/** What the import of an image found and stored; nothing is visible yet. */
export interface Imported {
  readonly committed: CommittedVersion
  readonly root: RootLocation
  readonly osName: string
  readonly kernel?: KernelRecord
  readonly warnings: readonly string[]
}

/** Reads an image into the store; on failure nothing is left. */
export type Importer = (
  request: { readonly path: string; readonly rootPartition?: number },
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal,
) => Promise<Imported>

export interface VDiskRoutesServices {
  readonly catalog: VDiskCatalog
  readonly registry: ClientRegistry
  readonly versions: OpenVersions
  readonly importImage: Importer
  readonly log: Log
}

/** A message is read by a person. */
const CLIENTS_NAMED_MAX = 8

export function vdiskRoutes(services: VDiskRoutesServices): Route[] {
  return [
    { method: 'GET', path: '/vdisks', handle: () => listVDisks(services) },
    {
      method: 'GET',
      path: '/vdisks/:name',
      handle: async ({ params }) => await showVDisk(services, params['name'] ?? ''),
    },
    {
      method: 'POST',
      path: '/vdisks',
      streams: true,
      handle: (request) => importVDisk(services, request),
    },
    {
      method: 'DELETE',
      path: '/vdisks/:name',
      handle: ({ params, query }) =>
        removeVDisk(services, params['name'] ?? '', query.has('force')),
    },
  ]
}

async function listVDisks(services: VDiskRoutesServices): Promise<VDiskView[]> {
  const vdisks = await services.catalog.list()
  const clients = await services.registry.list()
  return vdisks.map((vdisk) => viewOf(services, vdisk, clients))
}

async function showVDisk(services: VDiskRoutesServices, name: string): Promise<VDiskView> {
  const vdisk = await services.catalog.get(name)
  return viewOf(services, vdisk, await services.registry.list())
}

async function importVDisk(
  services: VDiskRoutesServices,
  { body, signal, progress }: RouteRequest,
): Promise<ImportResult> {
  const { catalog, log } = services
  const request = parseBody(importRequestSchema, body)
  const about = { path: request.path, name: request.name }
  log.info(about, 'import begins')
  const release = await catalog.reserve(request.name)
  try {
    const result = await importReserved(services, request, progress, signal)
    log.info(about, 'import done')
    return result
  } catch (error) {
    log.warn(about, `import failed: ${error instanceof Error ? error.message : String(error)}`)
    throw error
  } finally {
    release()
    // What was stored and not registered goes; what a removal left lying because of this import, too.
    await catalog.sweep()
  }
}

async function importReserved(
  services: VDiskRoutesServices,
  request: v.InferOutput<typeof importRequestSchema>,
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal,
): Promise<ImportResult> {
  const { name, title = name, path, rootPartition, kernelOptional } = request
  const imported = await services.importImage(
    { path, ...(rootPartition !== undefined && { rootPartition }) },
    onProgress,
    signal,
  )
  if (imported.kernel === undefined && !kernelOptional) throw noKernel(path)
  signal.throwIfAborted()
  const { warnings, ...found } = imported
  const vdisk = await services.catalog.register({ name, title, ...found })
  return { vdisk: viewOf(services, vdisk, await services.registry.list()), warnings }
}

async function removeVDisk(
  { catalog, registry }: VDiskRoutesServices,
  name: string,
  force: boolean,
): Promise<{ readonly removed: string; readonly unassignedFrom: readonly string[] }> {
  await catalog.get(name)
  const clients = clientsWith(await registry.list(), name)
  if (clients.length > 0 && !force) {
    throw new BootwireError(
      'IN_USE',
      `Cannot remove vDisk "${name}": it is assigned to ${hostnamesOf(clients)}; --force takes it from them`,
    )
  }
  await catalog.remove(name)
  for (const { id } of clients) await registry.unassign(id, [name])
  return { removed: name, unassignedFrom: clients.map(({ id }) => id) }
}

function viewOf(
  { versions }: Pick<VDiskRoutesServices, 'versions'>,
  vdisk: VDisk,
  clients: readonly ClientRecord[],
): VDiskView {
  return {
    ...vdisk.record,
    versions: vdisk.versions,
    clientIds: clientsWith(clients, vdisk.record.name).map(({ id }) => id),
    sessionCount: vdisk.versions
      .map(({ versionId }) => versions.leaseCount(versionId))
      .reduce((sum, count) => sum + count, 0),
  }
}

function clientsWith(clients: readonly ClientRecord[], vdisk: string): ClientRecord[] {
  return clients.filter(({ assignments }) => assignments.includes(vdisk))
}

function hostnamesOf(clients: readonly ClientRecord[]): string {
  const names = clients.slice(0, CLIENTS_NAMED_MAX).map(({ hostname }) => hostname)
  const others = clients.length - names.length
  return `${names.join(', ')}${others > 0 ? ` and ${others} others` : ''}`
}

function noKernel(path: string): BootwireError {
  return new BootwireError(
    'NO_KERNEL',
    `Cannot import "${path}": it has no kernel; --kernel-optional takes it all the same, to run on the default boot kernel`,
  )
}
