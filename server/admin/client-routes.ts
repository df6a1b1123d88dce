/** Administration of clients and a look at their boots. */

import type { BootLog } from '#server/clients/boot-log.ts'
import type { ClientRegistry } from '#server/clients/client-registry.ts'
import { hydrationOf } from '#server/clients/hydration.ts'
import type { SettingsStore, SettingsWish } from '#server/clients/settings-store.ts'
import { parseBody } from '#server/request-body.ts'
import type { BootRecord, ClientRecord } from '#server/state/records.ts'
import { CLOSE_CODE } from '#server/stream/close-code.ts'
import type { SessionTable } from '#server/stream/session-table.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import type { WriteStore } from '#server/write-cache/write-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { parseEnrolCode } from '#shared/identity/enrol-code.ts'
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
  replaceKeyRequestSchema,
  revokeRequestSchema,
  settingsRequestSchema,
  unassignRequestSchema,
  writeCacheRequestSchema,
} from './admin-api.ts'
import type { Route, RouteRequest } from './router.ts'

/** Boots shown when nobody says how many. */
const BOOTS_SHOWN = 20

export interface ClientRoutesServices {
  readonly registry: ClientRegistry
  readonly catalog: VDiskCatalog
  readonly boots: BootLog
  readonly sessions: SessionTable
  readonly writes: WriteStore
  readonly clientSettings: SettingsStore
}

type ClientAction = (client: ClientRecord, request: RouteRequest) => Promise<ClientRecord>

export function clientRoutes(services: ClientRoutesServices): Route[] {
  const { registry } = services
  const action = (name: string, act: ClientAction): Route => ({
    method: 'POST',
    path: `/clients/:client/${name}`,
    handle: async (request) => {
      const client = await findClient(services, request.params['client'] ?? '')
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
    action('approve', (client, request) => approve(services, client, request)),
    action('revoke', (client, { body }) =>
      revoke(services, client, parseBody(revokeRequestSchema, body)),
    ),
    action('replace-key', async (client, { body }) => {
      const standIn = await findClient(services, parseBody(replaceKeyRequestSchema, body).by)
      return await replaceKey(services, client, standIn)
    }),
    action('confirm', async (client, { body }) => {
      const standIn = await findClient(services, parseBody(replaceKeyRequestSchema, body).by)
      const confirmed = await registry.confirm(client.id, standIn.id)
      endWaiting(services, standIn, 'this machine is known now')
      await services.boots.removeClient(standIn.id)
      await services.clientSettings.remove(standIn.id)
      return confirmed
    }),
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
    {
      method: 'POST',
      path: '/clients/:client/settings',
      handle: ({ params, body }) =>
        setSettings(services, params['client'] ?? '', parseBody(settingsRequestSchema, body)),
    },
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
  const client = await findClient(services, selector)
  const boots = await services.boots.list(client.id)
  const settings = await services.clientSettings.view(client.id)
  return { ...viewOf(services, client), boots: boots.toReversed(), settings }
}

async function setSettings(
  services: ClientRoutesServices,
  selector: string,
  wish: SettingsWish,
): Promise<ClientDetails> {
  const { id } = await findClient(services, selector)
  await services.clientSettings.set(id, wish)
  services.registry.changes.emit(id)
  return await showClient(services, id)
}

/** By the code on its screen, or as the registry finds clients. */
export async function findClient(
  { registry, sessions }: ClientRoutesServices,
  selector: string,
): Promise<ClientRecord> {
  const code = parseEnrolCode(selector)
  const session = code === undefined ? undefined : sessions.byEnrolCode(code)
  if (code !== undefined && session === undefined) {
    throw new BootwireError(
      'NOT_FOUND',
      `Cannot find a machine that shows the code ${code}: expected one that is connected now; codes change at each boot`,
    )
  }
  return await registry.find(session?.clientId ?? selector)
}

async function approve(
  services: ClientRoutesServices,
  client: ClientRecord,
  { params, body }: RouteRequest,
): Promise<ClientRecord> {
  const { vdisks, trustKey } = parseBody(approveRequestSchema, body)
  await assertVDisksExist(services, vdisks)
  const fingerprint = vouchedKey(services, client, params['client'] ?? '', trustKey)
  // Assigned first, so that the client's screen never says that there is nothing for it.
  if (vdisks.length > 0) await services.registry.assign(client.id, vdisks, { only: false })
  const approved = await services.registry.approve(client.id, fingerprint)
  // It says hello again, and proves that it is the client.
  if (fingerprint !== undefined) endWaiting(services, client, 'its key is vouched for now')
  return approved
}

/**
 * The key that is vouched for: that of the machine whose code was compared. Machines may claim to be others,
 * so a name alone vouches for none.
 */
function vouchedKey(
  { sessions }: ClientRoutesServices,
  client: ClientRecord,
  selector: string,
  trustKey: boolean,
): string | undefined {
  const code = parseEnrolCode(selector)
  if (code !== undefined) return sessions.byEnrolCode(code)?.keyFingerprint
  const { offeredKey, hostname } = client
  if (offeredKey === undefined) return undefined
  if (trustKey) return offeredKey.fingerprint
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot vouch for the key of "${hostname}" by its name: expected the code that its screen shows, after comparing it with "client ls --pending"; --trust-key does without`,
  )
}

/** A machine that waits comes back at once, and is looked at anew; one that runs is left alone. */
function endWaiting({ sessions }: ClientRoutesServices, { id }: ClientRecord, why: string): void {
  const session = sessions.get(id)
  if (session?.waiting === true) session.end(CLOSE_CODE.serviceRestart, `${why}; say hello again`)
}

async function revoke(
  services: ClientRoutesServices,
  client: ClientRecord,
  { cut }: { readonly cut: boolean },
): Promise<ClientRecord> {
  const revoked = await services.registry.revoke(client.id, { cut })
  await services.clientSettings.forgetHostKey(client.id)
  const session = services.sessions.get(client.id)
  if (cut || session?.waiting === true) {
    session?.end(CLOSE_CODE.serviceRestart, 'the key of this machine was revoked')
  }
  return revoked
}

async function replaceKey(
  services: ClientRoutesServices,
  client: ClientRecord,
  standIn: ClientRecord,
): Promise<ClientRecord> {
  const replaced = await services.registry.replaceKey(client.id, standIn.id)
  endWaiting(services, standIn, 'this machine is known by its new key')
  return replaced
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
  await services.clientSettings.remove(client.id)
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
  const session = sessions.get(client.id)
  const code = session?.enrolCode
  return {
    ...client,
    hydration,
    connection: connectionOf(sessions, client.id),
    isAuthenticated: session?.isAuthenticated === true,
    ...(code !== undefined && { enrolCode: code }),
  }
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
