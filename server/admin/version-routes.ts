/** Administration of the versions of a vDisk: which are there, which is in production, their content. */

import { parseBody } from '#server/request-body.ts'
import type { VersionRecord } from '#server/state/records.ts'
import { versionContent } from '#server/store/versions/version-content.ts'
import type { OpenVersions } from '#server/stream/open-versions.ts'
import type { Traces } from '#server/traces/traces.ts'
import type { Promotion, VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import {
  type PromotionView,
  promoteRequestSchema,
  type TraceView,
  type VersionView,
} from './admin-api.ts'
import { encodeJsonFrame, FRAME } from './content-frames.ts'
import type { Route, RouteRequest } from './router.ts'
import { sendContent } from './send-content.ts'
import { versionViewOf } from './vdisk-routes.ts'

export interface VersionRoutesServices {
  readonly catalog: VDiskCatalog
  readonly versions: OpenVersions
  readonly traces: Pick<Traces, 'forget' | 'view'>
}

export function versionRoutes(services: VersionRoutesServices): Route[] {
  const { catalog } = services
  const nameIn = ({ params }: RouteRequest) => params['name'] ?? ''
  return [
    {
      method: 'GET',
      path: '/vdisks/:name/versions',
      handle: async (request) => await listVersions(services, nameIn(request)),
    },
    {
      method: 'POST',
      path: '/vdisks/:name/promote',
      handle: async (request) => {
        const { version } = parseBody(promoteRequestSchema, request.body)
        return promotionView(services, await catalog.promote(nameIn(request), version))
      },
    },
    {
      method: 'POST',
      path: '/vdisks/:name/rollback',
      handle: async (request) => promotionView(services, await catalog.rollback(nameIn(request))),
    },
    {
      method: 'DELETE',
      path: '/vdisks/:name/versions/:version',
      handle: async (request): Promise<VersionRecord> => {
        const force = request.query.has('force')
        const selector = request.params['version'] ?? ''
        return await catalog.removeVersion(nameIn(request), selector, { force })
      },
    },
    {
      method: 'GET',
      path: '/vdisks/:name/content',
      answers: 'frames',
      handle: (request) => exportVersion(services, request),
    },
    {
      method: 'GET',
      path: '/vdisks/:name/trace',
      handle: (request) => showTrace(services, request),
    },
    {
      method: 'DELETE',
      path: '/vdisks/:name/trace',
      handle: async (request) => {
        await forgetTrace(services, request)
        return await showTrace(services, request)
      },
    },
  ]
}

async function listVersions(services: VersionRoutesServices, name: string): Promise<VersionView[]> {
  const vdisk = await services.catalog.get(name)
  return vdisk.versions.map((version) => versionViewOf(services, vdisk, version))
}

function promotionView(services: VersionRoutesServices, promotion: Promotion): PromotionView {
  const { version, before } = promotion
  return {
    version: versionViewOf(services, promotion, version),
    ...(before !== undefined && { before }),
  }
}

async function showTrace(
  { catalog, versions, traces }: VersionRoutesServices,
  { params, query }: RouteRequest,
): Promise<TraceView> {
  const version = await catalog.find(params['name'] ?? '', query.get('version') ?? undefined)
  const { vdisk, number, versionId, sizeBytes } = version
  const lease = await versions.acquire(versionId)
  try {
    const view = await traces.view(versionId, lease.reader.chunks)
    return { vdisk, number, versionId, sizeBytes, ...view }
  } finally {
    lease.release()
  }
}

/** The boots to come are foreseen as those of a version that nobody has booted. */
async function forgetTrace(
  { catalog, traces }: VersionRoutesServices,
  { params, query }: RouteRequest,
): Promise<void> {
  const name = params['name'] ?? ''
  const version = await catalog.find(name, query.get('version') ?? undefined)
  const { versions } = await catalog.get(name)
  await traces.forget(
    version,
    versions.filter(({ number }) => number < version.number),
  )
}

/** The lease keeps the data while they are read, as it does for a client. */
async function exportVersion(
  { catalog, versions }: VersionRoutesServices,
  { params, query, signal, write }: RouteRequest,
): Promise<void> {
  const version = await catalog.find(params['name'] ?? '', query.get('version') ?? undefined)
  const lease = await versions.acquire(version.versionId)
  try {
    await write(encodeJsonFrame(FRAME.head, { version }))
    await sendContent(versionContent(lease.reader, signal), write)
  } finally {
    lease.release()
  }
}
