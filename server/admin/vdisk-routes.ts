/** Administration of vDisks: importing, listing and removing them. */

import type * as v from 'valibot'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import type { Log } from '#server/log.ts'
import { parseBody } from '#server/request-body.ts'
import type { ClientRecord, KernelRecord, VersionRecord } from '#server/state/records.ts'
import type { CommittedVersion } from '#server/store/chunk-store.ts'
import type { OpenVersions } from '#server/stream/open-versions.ts'
import type { Traces } from '#server/traces/traces.ts'
import type { LintReports } from '#server/vdisks/lint-reports.ts'
import type { VDisk } from '#server/vdisks/vdisk.ts'
import type { RegisteredVersion, VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import {
  accessRequestSchema,
  type ImportProgress,
  type ImportResult,
  importOptionsSchema,
  importRequestSchema,
  type VDiskView,
  type VersionView,
  writeCacheRequestSchema,
} from './admin-api.ts'
import type { Route, RouteRequest } from './router.ts'

/** What the import of an image found and stored; nothing is visible yet. */
export interface Imported {
  readonly committed: CommittedVersion
  readonly format: string
  readonly root: RootLocation
  readonly osName: string
  readonly kernel?: KernelRecord
  readonly warnings: readonly string[]
  /** Absent when it could not be searched. */
  readonly lint?: LintReport
}

/** An image on the server's disks, or bytes that come. */
export type ImportSource =
  | { readonly path: string }
  | { readonly upload: AsyncIterable<Uint8Array>; readonly name: string }

/** Reads an image into the store; on failure nothing is left. */
export type Importer = (
  request: ImportSource & { readonly rootPartition?: number },
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal,
) => Promise<Imported>

export interface VDiskRoutesServices {
  readonly catalog: VDiskCatalog
  readonly registry: ClientRegistry
  readonly versions: OpenVersions
  readonly traces: Pick<Traces, 'list' | 'prepare'>
  readonly importImage: Importer
  readonly lintReports: Pick<LintReports, 'keep'>
  readonly log: Log
}

/** What an uploaded image is called in messages. */
const UPLOAD_NAME = 'standard input'

type ImportOptions = v.InferOutput<typeof importOptionsSchema>

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
      answers: 'lines',
      handle: (request) => {
        const { path, ...options } = parseBody(importRequestSchema, request.body)
        return importVDisk(services, { path }, options, request)
      },
    },
    {
      method: 'POST',
      path: '/vdisks/upload',
      answers: 'lines',
      takesUpload: true,
      handle: (request) => {
        const options = parseBody(importOptionsSchema, optionsIn(request.query))
        const { upload } = request
        return importVDisk(services, { upload, name: UPLOAD_NAME }, options, request)
      },
    },
    {
      method: 'POST',
      path: '/vdisks/:name/write-cache',
      handle: async ({ params, body }) => {
        const wish = parseBody(writeCacheRequestSchema, body)
        const vdisk = await services.catalog.setWriteCache(params['name'] ?? '', wish)
        return viewOf(services, vdisk, await services.registry.list())
      },
    },
    {
      method: 'POST',
      path: '/vdisks/:name/access',
      handle: async ({ params, body }) => {
        const { access } = parseBody(accessRequestSchema, body)
        const vdisk = await services.catalog.setAccess(params['name'] ?? '', access)
        return viewOf(services, vdisk, await services.registry.list())
      },
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

/** An upload's body is the image, so its options are in the address. */
function optionsIn(query: URLSearchParams): unknown {
  try {
    return JSON.parse(query.get('options') ?? '{}')
  } catch (cause) {
    throw new BootwireError('INVALID_ARGUMENT', 'Cannot use the request: no JSON', { cause })
  }
}

/** Imports an image and registers what it became, as the route does. */
export async function importVDisk(
  services: VDiskRoutesServices,
  source: ImportSource,
  options: ImportOptions,
  { signal, progress }: Pick<RouteRequest, 'signal' | 'progress'>,
): Promise<ImportResult> {
  const { catalog, log } = services
  const about = { image: nameOf(source), name: options.name }
  const release = await catalog.beginImport(options.name)
  log.info(about, 'import begins')
  try {
    const result = await importCounted(services, source, options, { signal, progress })
    const { outcome, version } = result
    log.info({ ...about, outcome, version: version.number }, 'import done')
    return result
  } catch (error) {
    log.warn(about, `import failed: ${error instanceof Error ? error.message : String(error)}`)
    catalog.garbage.schedule() // chunks it stored and never committed
    throw error
  } finally {
    release()
    // What was stored and not registered goes; what a removal left lying because of this import, too.
    await catalog.sweep()
  }
}

async function importCounted(
  services: VDiskRoutesServices,
  source: ImportSource,
  options: ImportOptions,
  { signal, progress }: Pick<RouteRequest, 'signal' | 'progress'>,
): Promise<ImportResult> {
  const { name, title, rootPartition, kernelOptional, promote, access } = options
  const request = { ...source, ...(rootPartition !== undefined && { rootPartition }) }
  const imported = await services.importImage(request, progress, signal)
  if (imported.kernel === undefined && !kernelOptional) throw noKernel(nameOf(source))
  signal.throwIfAborted()
  const { warnings, format, lint, ...found } = imported
  // Before anybody can boot it, so that its first boot is foreseen too.
  progress({ stage: 'foreseeing its boots', doneBytes: 0, totalBytes: 0 })
  await foresee(services, name, found)
  signal.throwIfAborted()
  const registered = await services.catalog.register({
    name,
    ...(title !== undefined && { title }),
    ...found,
    ...(access !== undefined && { access }),
    promote,
  })
  if (lint !== undefined) await keepReport(services, registered.version, lint)
  const facts = { warnings, format, ...(lint !== undefined && { lint }) }
  return await resultOf(services, registered, facts)
}

/** What is known of a version already, by its boots or those of the same image elsewhere, stays. */
async function foresee(
  { catalog, traces }: VDiskRoutesServices,
  name: string,
  { committed, root, kernel }: Pick<Imported, 'committed' | 'root' | 'kernel'>,
): Promise<void> {
  const { versionId } = committed
  if ((await traces.list(versionId)) !== undefined) return
  const before = (await catalog.tryGet(name))?.versions ?? []
  await traces.prepare({ versionId, root, ...(kernel !== undefined && { kernel }) }, before)
}

/** What is not kept is found again when it is asked for. */
async function keepReport(
  { lintReports, log }: VDiskRoutesServices,
  version: VersionRecord,
  report: LintReport,
): Promise<void> {
  try {
    await lintReports.keep(version, report)
  } catch (error) {
    log.error({ err: error }, 'cannot keep what was found in the image')
  }
}

async function resultOf(
  services: VDiskRoutesServices,
  registered: RegisteredVersion,
  facts: Pick<ImportResult, 'warnings' | 'format' | 'lint'>,
): Promise<ImportResult> {
  const { version, outcome } = registered
  const clients = await services.registry.list()
  return {
    vdisk: viewOf(services, registered, clients),
    version: versionViewOf(services, registered, version),
    outcome,
    ...facts,
  }
}

function nameOf(source: ImportSource): string {
  return 'path' in source ? source.path : source.name
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
  await catalog.remove(name, { force })
  for (const { id } of clients) await registry.unassign(id, [name])
  return { removed: name, unassignedFrom: clients.map(({ id }) => id) }
}

function viewOf(
  services: Pick<VDiskRoutesServices, 'versions'>,
  vdisk: VDisk,
  clients: readonly ClientRecord[],
): VDiskView {
  const versions = vdisk.versions.map((version) => versionViewOf(services, vdisk, version))
  return {
    ...vdisk.record,
    versions,
    clientIds: clientsWith(clients, vdisk.record.name).map(({ id }) => id),
    sessionCount: versions.reduce((sum, { sessionCount }) => sum + sessionCount, 0),
  }
}

export function versionViewOf(
  { versions }: Pick<VDiskRoutesServices, 'versions'>,
  { record }: Pick<VDisk, 'record'>,
  version: VersionRecord,
): VersionView {
  return {
    ...version,
    isInProduction: version.versionId === record.productionVersionId,
    sessionCount: versions.leaseCount(version.versionId),
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
