/** The parts that know clients, vDisks and sessions, wired to each other; nothing listens yet. */
import { BootLog } from './clients/boot-log.ts'
import { ClientRegistry } from './clients/client-registry.ts'
import { JoinGrants } from './clients/join-grants.ts'
import { SettingsStore } from './clients/settings-store.ts'
import type { UnknownPolicy } from './clients/unknown-policy.ts'
import { versionUsers } from './clients/version-users.ts'
import type { Log } from './log.ts'
import type { StateStore } from './state/state-store.ts'
import type { ChunkStore } from './store/chunk-store.ts'
import { BootSets } from './stream/boot-sets.ts'
import { OpenVersions } from './stream/open-versions.ts'
import { SessionTable } from './stream/session-table.ts'
import { SlabPool } from './stream/slab-pool.ts'
import { UnreadableObjects } from './stream/unreadable-objects.ts'
import type { TraceFiles } from './traces/trace-files.ts'
import { Traces } from './traces/traces.ts'
import { LintReports } from './vdisks/lint-reports.ts'
import { type KernelFiles, VDiskCatalog, type VersionUserName } from './vdisks/vdisk-catalog.ts'
import { WriteStore } from './write-cache/write-store.ts'

export interface Core {
  readonly registry: ClientRegistry
  readonly grants: JoinGrants
  readonly clientSettings: SettingsStore
  readonly catalog: VDiskCatalog
  readonly boots: BootLog
  readonly sessions: SessionTable
  readonly versions: OpenVersions
  readonly traces: Traces
  readonly bootSets: BootSets
  readonly unreadable: UnreadableObjects
  readonly slabs: SlabPool
  readonly writes: WriteStore
  readonly lintReports: LintReports
}

export interface CoreOptions {
  readonly store: StateStore
  readonly chunkStore: ChunkStore
  readonly traceFiles: TraceFiles
  readonly bootFiles: KernelFiles
  /** Folder for what clients write. */
  readonly writesFolder: string
  readonly writeQuotaBytes: number
  readonly unknownClients: UnknownPolicy
  readonly hostnamePattern: string
  readonly now: () => number
  readonly log: Log
}

export function createCore(options: CoreOptions): Core {
  const { store, chunkStore, traceFiles, bootFiles, unknownClients, hostnamePattern, now, log } =
    options
  const sessions = new SessionTable()
  const versions = new OpenVersions(chunkStore, (error) => {
    log.error({ err: error }, 'cannot close a version')
  })
  const grants = new JoinGrants(store, now)
  const registry = new ClientRegistry({
    store,
    grants,
    policy: unknownClients,
    hostnamePattern,
    isRunning: (clientId) => sessions.get(clientId) !== undefined,
    now,
    log,
  })
  const clientSettings = new SettingsStore(store)
  const boots = new BootLog({ store, now, log })
  const lintReports = new LintReports(store)
  const traces = new Traces({ files: traceFiles, store: chunkStore, now, log })
  const catalog = new VDiskCatalog({
    store,
    chunkStore,
    bootFiles,
    isInUse: (versionId) => versions.isInUse(versionId),
    usersOf: async (vdisk, versionId) => [
      ...(await namedVersionUsers({ boots, registry, nowMs: now() }, { vdisk, versionId })),
      ...(await keepersOf(registry, vdisk, versionId)),
    ],
    onDataRemoved: (versionId) => {
      traces.removeVersion(versionId).catch((error: unknown) => {
        log.error({ err: error, versionId }, 'cannot remove the traces of a version')
      })
      lintReports.remove(versionId).catch((error: unknown) => {
        log.error({ err: error, versionId }, 'cannot remove what was found in a version')
      })
    },
    now,
    log,
  })
  const slabs = new SlabPool()
  const writes = new WriteStore({
    folder: options.writesFolder,
    quotaBytes: options.writeQuotaBytes,
    log,
  })
  const bootSets = new BootSets({ traces, files: traceFiles, store: chunkStore, slabs, log })
  const unreadable = new UnreadableObjects(log)
  registry.changes.subscribe((clientId) => sessions.get(clientId)?.refresh())
  catalog.changes.subscribe(() => sessions.refreshWaiting())
  return {
    registry,
    grants,
    clientSettings,
    catalog,
    boots,
    sessions,
    versions,
    traces,
    bootSets,
    unreadable,
    slabs,
    writes,
    lintReports,
  }
}

/** Clients for which something is kept over the version, as nobody could read it without. */
async function keepersOf(
  registry: ClientRegistry,
  vdisk: string,
  versionId: string,
): Promise<VersionUserName[]> {
  const clients = await registry.list()
  return clients
    .filter(({ keptVersions }) => keptVersions?.[vdisk] === versionId)
    .map(({ hostname }) => ({ text: `${hostname} (keeps what it wrote)`, isLost: false }))
}

async function namedVersionUsers(
  services: Pick<Core, 'boots' | 'registry'> & { readonly nowMs: number },
  version: { readonly vdisk: string; readonly versionId: string },
): Promise<VersionUserName[]> {
  const { boots, registry, nowMs } = services
  const users = versionUsers(await boots.list(), version, nowMs)
  return await Promise.all(
    users.map(async ({ clientId, lostAtMs }) => {
      const hostname = (await registry.get(clientId))?.hostname ?? clientId
      if (lostAtMs === undefined) return { text: hostname, isLost: false }
      const minutes = Math.ceil((nowMs - lostAtMs) / 60_000)
      return { text: `${hostname} (connection lost ${minutes} min ago)`, isLost: true }
    }),
  )
}
