/** Administration of the store behind all vDisks: is it whole, and what of it is needed no more. */

import { parseBody } from '#server/request-body.ts'
import type { ChunkStore, GarbageReport } from '#server/store/chunk-store.ts'
import type { VDisk } from '#server/vdisks/vdisk.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { type CheckView, checkRequestSchema, type StoreProgress } from './admin-api.ts'
import type { Route, RouteRequest } from './router.ts'

export interface StoreRoutesServices {
  readonly catalog: VDiskCatalog
  readonly chunkStore: Pick<ChunkStore, 'check'>
}

export function storeRoutes(services: StoreRoutesServices): Route[] {
  return [
    {
      method: 'POST',
      path: '/store/check',
      answers: 'lines',
      handle: (request) => checkStore(services, request),
    },
    {
      method: 'POST',
      path: '/store/gc',
      answers: 'lines',
      handle: (request) => collectGarbage(services, request),
    },
  ]
}

async function checkStore(
  { catalog, chunkStore }: StoreRoutesServices,
  { body, signal, progress }: RouteRequest,
): Promise<CheckView> {
  const options = parseBody(checkRequestSchema, body)
  const stage = options.readDataShare > 0 ? 'reading and hashing data' : 'checking'
  const onProgress = (line: Omit<StoreProgress, 'stage'>) => progress({ stage, ...line })
  const { damages, incompleteIds, ...report } = await chunkStore.check(options, onProgress, signal)
  const names = namesOfVersions(await catalog.list())
  return {
    ...report,
    damages: damages.map(({ text, versionIds }) => ({ text, versions: named(versionIds, names) })),
    incomplete: named(incompleteIds, names),
  }
}

async function collectGarbage(
  { catalog }: StoreRoutesServices,
  { signal, progress }: RouteRequest,
): Promise<GarbageReport> {
  progress({ stage: 'looking for what no version holds', doneBytes: 0, totalBytes: 0 })
  await catalog.sweep()
  return await catalog.garbage.run(signal)
}

/** Version id → `debian@3`; the same image may be a version of several vDisks. */
function namesOfVersions(vdisks: readonly VDisk[]): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>()
  for (const { vdisk, versionId, number } of vdisks.flatMap(({ versions }) => versions)) {
    names.set(versionId, [...(names.get(versionId) ?? []), `${vdisk}@${number}`])
  }
  return names
}

function named(
  versionIds: readonly string[],
  names: ReadonlyMap<string, readonly string[]>,
): string[] {
  return versionIds.flatMap((id) => names.get(id) ?? [id])
}
