/** A server that is administered from afar over a real TLS port, with its parts in memory. */
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { AdminAnswers } from '#server/admin/admin-answers.ts'
import { type AdminServices, createAdminRoutes } from '#server/admin/admin-routes.ts'
import { AdminServer } from '#server/admin/admin-server.ts'
import { subjectFinder } from '#server/admin/audit-subject.ts'
import { RemoteAdmin, type RemoteAdminServices } from '#server/admin/remote-admin.ts'
import type { Route } from '#server/admin/router.ts'
import { AccessTokens } from '#server/administrators/access-tokens.ts'
import { type AuditEntry, AuditLog } from '#server/administrators/audit-log.ts'
import type { TokenRole } from '#server/administrators/roles.ts'
import { AdminClient } from '#server/cli/admin-client.ts'
import { closeServer, createAdminServer } from '#server/http-servers.ts'
import { createLog } from '#server/log.ts'
import { ensureServerKey, type ServerKey } from '#server/tls/server-key.ts'
import { createTestCore, imageOf, type TestCore } from './server-core.ts'
import { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

export interface RemoteSite extends AsyncDisposable {
  readonly core: TestCore
  readonly folder: TemporaryFolder
  readonly key: ServerKey
  /** Of the log. */
  readonly lines: readonly string[]
  readonly port: number
  readonly routes: readonly Route[]
  readonly tokens: AccessTokens
  /** Whoever may open the socket. */
  readonly owner: AdminClient
  readonly audit: () => Promise<AuditEntry[]>
  readonly tokenOf: (role: TokenRole, name?: string) => Promise<string>
  readonly clientWith: (token: string, pin?: string) => AdminClient
}

export async function startRemoteSite(
  limits: Pick<RemoteAdminServices, 'failures' | 'requests'> = {},
): Promise<RemoteSite> {
  const folder = await createTemporaryFolder()
  const core = createTestCore()
  const lines: string[] = []
  const log = createLog({ json: true, level: 'info' }, (line) => lines.push(line))
  const tokens = new AccessTokens(core.store, () => core.clock.nowMs)
  const audit = await AuditLog.open(join(folder.path, 'audit'))
  const key = await ensureServerKey(folder.path)
  const routes = createAdminRoutes({
    ...core,
    tokens,
    audit,
    log,
    rollOver: async () => 'none',
    importImage: async () => ({
      committed: core.chunkStore.add(imageOf('imported')),
      format: 'raw',
      root: { partition: 1, fsType: 'ext4', options: '' },
      osName: 'Test 1',
      warnings: [],
    }),
  } as unknown as AdminServices)
  const answers = new AdminAnswers({ routes, audit, findSubject: subjectFinder(core), log })
  const server = createAdminServer(key)
  const remote = new RemoteAdmin({ answers, tokens, log, ...limits })
  server.on('request', remote.handle)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const socketPath = join(folder.path, 'admin.sock')
  const local = await AdminServer.listen(socketPath, answers)
  const tokenOf = async (role: TokenRole, name: string = role) =>
    (await tokens.create({ name, role, createdBy: 'test' })).token
  const clientWith = (token: string, pin = key.pin) =>
    new AdminClient({ server: { host: '127.0.0.1', port }, pin, token })
  return {
    core,
    folder,
    key,
    lines,
    port,
    routes,
    tokens,
    owner: new AdminClient({ socketPath }),
    audit: async () => await audit.list({ limit: 100 }),
    tokenOf,
    clientWith,
    [Symbol.asyncDispose]: async () => {
      await local.close()
      await closeServer(server)
      await audit.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}
