/** Administration of clients and a look at their boots. */

import type { BootLog } from '#server/clients/boot-log.ts'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import { hydrationOf } from '#server/clients/hydration.ts'
import type { BootRecord, ClientRecord } from '#server/state/records.ts'
import { CLOSE_CODE } from '#server/stream/close-code.ts'
import type { SessionTable } from '#server/stream/session-table.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import type { WriteStore } from '#server/write-cache/write-store.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Hydration } from '#shared/wire/messages.ts'
import {
  approveRequestSchema,
  assignRequestSchema,
  type BootView,
  type ClientDetails,
  type ClientView,
  type Connection,
  discardWritesRequestSchema,
  type HydrateRequest,
  hydrateRequestSchema,
  renameRequestSchema,
  unassignRequestSchema,
  writeCacheRequestSchema,
} from './admin-api.ts'
import { parseBody } from './request-body.ts'
import type { Route, RouteRequest } from './router.ts'

/** Boots shown when nobody says how many. */
const BOOTS_SHOWN = 20

export interface ClientRoutesServices {
  readonly registry: ClientRegistry
  readonly catalog: VDiskCatalog
  readonly boots: BootLog
  readonly sessions: SessionTable
  readonly writes: WriteStore
}

type ClientAction = (client: ClientRecord, request: RouteRequest) => Promise<ClientRecord>

export function clientRoutes(services: ClientRoutesServices): Route[] {
  const { registry } = services
  const action = (name: string, act: ClientAction): Route => ({
    method: 'POST',
    path: `/clients/:client/${name}`,
    handle: async (request) => {
      const client = await registry.find(request.params['client'] ?? '')
      return viewOf(services, await act(client, request))
    },
  })
  return [
    { method: 'GET', path: '/clients', handle: () => listClients(services) },
    {
      method: 'GET',
      path: '/clients/:client',
      handle: ({ params }) => showClient(services, params['client'] ?? ''),
    },
    action('approve', (client, { body }) => approve(services, client, body)),
    action('refuse', (client) => registry.refuse(client.id)),
    action('assign', (client, { body }) => assign(services, client, body)),
    action('unassign', (client, { body }) =>
      registry.unassign(client.id, parseBody(unassignRequestSchema, body).vdisks),
    ),
    action('rename', (client, { body }) =>
      registry.rename(client.id, parseBody(renameRequestSchema, body).hostname),
    ),
    action('hydrate', (client, { body }) =>
      registry.setHydration(client.id, hydrationWish(parseBody(hydrateRequestSchema, body))),
    ),
    action('write-cache', (client, { body }) =>
      registry.setWriteCache(client.id, parseBody(writeCacheRequestSchema, body)),
    ),
    action('discard-writes', (client, { body }) =>
      discardWrites(services, client, parseBody(discardWritesRequestSchema, body).vdisk),
    ),
    {
      method: 'DELETE',
      path: '/clients/:client',
      handle: ({ params, query }) =>
        removeClient(services, params['client'] ?? '', query.has('force')),
    },
    { method: 'GET', path: '/boots', handle: ({ query }) => listBoots(services, query) },
  ]
}

async function listClients(services: ClientRoutesServices): Promise<ClientView[]> {
  const clients = await services.registry.list()
  clients.sort((a, b) => a.hostname.localeCompare(b.hostname, 'en', { numeric: true }))
  return clients.map((client) => viewOf(services, client))
}

async function showClient(
  services: ClientRoutesServices,
  selector: string,
): Promise<ClientDetails> {
  const client = await services.registry.find(selector)
  const boots = await services.boots.list(client.id)
  return { ...viewOf(services, client), boots: boots.toReversed() }
}

async function approve(
  services: ClientRoutesServices,
  client: ClientRecord,
  body: unknown,
): Promise<ClientRecord> {
  const { vdisks } = parseBody(approveRequestSchema, body)
  await assertVDisksExist(services, vdisks)
  // Assigned first, so that the client's screen never says that there is nothing for it.
  if (vdisks.length > 0) await services.registry.assign(client.id, vdisks, { only: false })
  return await services.registry.approve(client.id)
}

async function assign(
  services: ClientRoutesServices,
  client: ClientRecord,
  body: unknown,
): Promise<ClientRecord> {
  const { vdisks, only } = parseBody(assignRequestSchema, body)
  await assertVDisksExist(services, vdisks)
  return await services.registry.assign(client.id, vdisks, { only })
}

/** Leaves out what was not said, as the record keeps what it has. */
function hydrationWish({ mode, rateBytesPerSecond }: HydrateRequest): Partial<Hydration> {
  return {
    ...(mode !== undefined && { mode }),
    ...(rateBytesPerSecond !== undefined && { rateBytesPerSecond }),
  }
}

/** What the client keeps over a vDisk is given up; its next boot gets the version in production. */
async function discardWrites(
  { registry, writes, sessions }: ClientRoutesServices,
  client: ClientRecord,
  vdisk: string,
): Promise<ClientRecord> {
  if (client.keptVersions?.[vdisk] === undefined) {
    throw new BootwireError(
      'NOT_FOUND',
      `Cannot discard anything: nothing is kept for client "${client.hostname}" over vDisk "${vdisk}"`,
    )
  }
  const session = sessions.get(client.id)
  if (session !== undefined && !session.waiting) {
    throw new BootwireError(
      'IN_USE',
      `Cannot discard what client "${client.hostname}" keeps: it runs on it right now`,
    )
  }
  await writes.discard(client.id, vdisk)
  return await registry.forgetKept(client.id, vdisk)
}

async function removeClient(
  services: ClientRoutesServices,
  selector: string,
  force: boolean,
): Promise<{ readonly removed: string }> {
  const client = await services.registry.find(selector)
  const session = services.sessions.get(client.id)
  if (session !== undefined && !session.waiting && !force) {
    throw new BootwireError(
      'IN_USE',
      `Cannot remove client "${client.hostname}": it runs on its vDisk right now; --force takes it away`,
    )
  }
  await services.registry.remove(client.id)
  session?.end(CLOSE_CODE.serviceRestart, 'this client was removed; say hello again')
  await services.boots.removeClient(client.id)
  await services.writes.removeClient(client.id)
  return { removed: client.id }
}

async function listBoots(
  { registry, boots }: ClientRoutesServices,
  query: URLSearchParams,
): Promise<BootView[]> {
  const selector = query.get('client')
  const client = selector === null ? undefined : await registry.find(selector)
  const limit = Number(query.get('limit') ?? BOOTS_SHOWN)
  if (!Number.isInteger(limit) || limit < 1) {
    throw new BootwireError('INVALID_ARGUMENT', `Cannot show ${limit} boots: expected 1 or more`)
  }
  const records = (await boots.list(client?.id)).toReversed().slice(0, limit)
  const hostnames = new Map((await registry.list()).map(({ id, hostname }) => [id, hostname]))
  return records.map((record) => bootView(record, hostnames))
}

function bootView(record: BootRecord, hostnames: ReadonlyMap<string, string>): BootView {
  return { ...record, hostname: hostnames.get(record.clientId) ?? record.clientId }
}

function viewOf({ sessions }: ClientRoutesServices, client: ClientRecord): ClientView {
  const hydration = hydrationOf(client)
  return { ...client, hydration, connection: connectionOf(sessions, client.id) }
}

function connectionOf(sessions: SessionTable, clientId: string): Connection {
  const session = sessions.get(clientId)
  if (session === undefined) return 'off'
  return session.waiting ? 'waiting' : 'streaming'
}

async function assertVDisksExist(
  { catalog }: ClientRoutesServices,
  vdisks: readonly string[],
): Promise<void> {
  for (const name of vdisks) await catalog.get(name)
}
