/** Administration: what is in a version or an image that machines should not share. */
import type { LintSource } from '#server/import/lint-image.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import { parseBody } from '#server/request-body.ts'
import type { VersionRecord } from '#server/state/records.ts'
import { versionContent } from '#server/store/versions/version-content.ts'
import type { OpenVersions } from '#server/stream/open-versions.ts'
import type { LintReports } from '#server/vdisks/lint-reports.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { type LintView, lintRequestSchema } from './admin-api.ts'
import type { Route, RouteRequest } from './router.ts'

/** Looks into an image. */
export type Linter = (
  source: LintSource,
  report: (stage: string, doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
) => Promise<LintReport>

export interface LintRoutesServices {
  readonly catalog: Pick<VDiskCatalog, 'find'>
  readonly versions: Pick<OpenVersions, 'acquire'>
  readonly lintImage: Linter
  readonly lintReports: Pick<LintReports, 'get' | 'keep'>
}

export function lintRoutes(services: LintRoutesServices): Route[] {
  return [
    {
      method: 'POST',
      path: '/vdisks/:name/lint',
      answers: 'lines',
      handle: (request) => lintVersion(services, request),
    },
    {
      method: 'POST',
      path: '/images/lint',
      answers: 'lines',
      handle: (request) => lintFile(services, request),
    },
  ]
}

async function lintVersion(services: LintRoutesServices, request: RouteRequest): Promise<LintView> {
  const { catalog, lintReports } = services
  const { params, query } = request
  const version = await catalog.find(params['name'] ?? '', query.get('version') ?? undefined)
  const subject = `${version.vdisk}@${version.number}`
  const kept = await lintReports.get(version)
  if (kept !== undefined) return { subject, ...kept }
  const found = await lintStored(services, version, { ...request, subject })
  await lintReports.keep(version, found)
  return { subject, ...found }
}

/** The lease keeps the data while they are read, as it does for a client. */
async function lintStored(
  { versions, lintImage }: LintRoutesServices,
  { versionId, sizeBytes, root }: VersionRecord,
  request: Pick<RouteRequest, 'progress' | 'signal'> & { readonly subject: string },
): Promise<LintReport> {
  const { signal, subject } = request
  const lease = await versions.acquire(versionId)
  try {
    const content = versionContent(lease.reader, signal)
    return await lintImage({ content, sizeBytes, name: subject, root }, reporting(request), signal)
  } finally {
    lease.release()
  }
}

async function lintFile(
  { lintImage }: LintRoutesServices,
  request: RouteRequest,
): Promise<LintView> {
  const { path, rootPartition } = parseBody(lintRequestSchema, request.body)
  const source = { path, ...(rootPartition !== undefined && { rootPartition }) }
  const found = await lintImage(source, reporting(request), request.signal)
  return { subject: path, ...found }
}

function reporting({ progress }: Pick<RouteRequest, 'progress'>) {
  return (stage: string, doneBytes: number, totalBytes: number) =>
    progress({ stage, doneBytes, totalBytes })
}
