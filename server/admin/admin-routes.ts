/** Everything the administration socket answers. */

import { formatUnknownPolicy } from '#server/clients/unknown-policy.ts'
import type { ServeConfig } from '#server/config.ts'
import type { ClientState } from '#server/state/records.ts'
import { VERSION } from '#server/version.ts'
import type { StatusView } from './admin-api.ts'
import { type AdministratorRoutesServices, administratorRoutes } from './administrator-routes.ts'
import { type CaptureRoutesServices, captureRoutes } from './capture-routes.ts'
import { type ClientRoutesServices, clientRoutes } from './client-routes.ts'
import { type JoinRoutesServices, joinRoutes } from './join-routes.ts'
import { type KeyRoutesServices, keyRoutes } from './key-routes.ts'
import { type LintRoutesServices, lintRoutes } from './lint-routes.ts'
import type { Route } from './router.ts'
import { type StoreRoutesServices, storeRoutes } from './store-routes.ts'
import { type VDiskRoutesServices, vdiskRoutes } from './vdisk-routes.ts'
import { type VersionRoutesServices, versionRoutes } from './version-routes.ts'

/** What `status` tells of the running server. */
export interface ServerFacts {
  readonly config: ServeConfig
  readonly httpPort: number
  readonly tlsPort: number
  readonly pin: string
  readonly startedAtMs: number
}

export type AdminServices = ClientRoutesServices &
  VDiskRoutesServices &
  VersionRoutesServices &
  LintRoutesServices &
  StoreRoutesServices &
  JoinRoutesServices &
  AdministratorRoutesServices &
  CaptureRoutesServices &
  Pick<KeyRoutesServices, 'rollOver'> & { readonly server: ServerFacts }

export function createAdminRoutes(services: AdminServices): Route[] {
  return [
    { method: 'GET', path: '/status', handle: () => status(services) },
    ...vdiskRoutes(services),
    ...versionRoutes(services),
    ...lintRoutes(services),
    ...storeRoutes(services),
    ...clientRoutes(services),
    ...joinRoutes(services),
    ...captureRoutes(services),
    ...keyRoutes(services),
    ...administratorRoutes(services),
  ]
}

async function status({ server, catalog, registry, sessions }: AdminServices): Promise<StatusView> {
  const { config, ...facts } = server
  const clientCounts: Record<ClientState, number> = { approved: 0, pending: 0, refused: 0 }
  for (const { state } of await registry.list()) clientCounts[state] += 1
  return {
    version: VERSION,
    serverName: config.serverName,
    ...facts,
    uptimeSeconds: Math.round((Date.now() - server.startedAtMs) / 1000),
    stateFolder: config.stateFolder,
    address: config.address,
    unknownClients: formatUnknownPolicy(config.unknownClients),
    hostnamePattern: config.hostnamePattern,
    vdiskCount: (await catalog.list()).length,
    clientCounts,
    connectionCount: sessions.count,
    rssBytes: process.memoryUsage.rss(),
  }
}
