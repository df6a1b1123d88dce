/**
 * The server: opens its state, listens, and hands every part what it needs. The one place that knows
 * all parts; none of them knows this file.
 *
 * Order of starting: database (its lock keeps a second server out of the folder), key, store,
 * listeners, administration. What is open is closed in reverse, also when starting fails half-way.
 */
import * as v from 'valibot'
import { AdminAnswers } from './admin/admin-answers.ts'
import { type ImportProgress, importOptionsSchema } from './admin/admin-api.ts'
import { createAdminRoutes } from './admin/admin-routes.ts'
import { AdminServer } from './admin/admin-server.ts'
import { subjectFinder } from './admin/audit-subject.ts'
import { RemoteAdmin } from './admin/remote-admin.ts'
import { type Importer, importVDisk, type VDiskRoutesServices } from './admin/vdisk-routes.ts'
import { AccessTokens } from './administrators/access-tokens.ts'
import { AuditLog } from './administrators/audit-log.ts'
import { BootFiles } from './boot/boot-files.ts'
import { createBootHandler, sendKeyChain } from './boot/boot-http.ts'
import { ENTRY_SCRIPT_PATH, KEY_CHAIN_PATH, programPath } from './boot/boot-paths.ts'
import { renderEntryScript } from './boot/boot-script.ts'
import { findMemtest } from './boot/memtest-files.ts'
import { captureHandler } from './capture/capture-http.ts'
import { Captures } from './capture/captures.ts'
import { createBootPlanner } from './clients/boot-planner.ts'
import type { ServeConfig } from './config.ts'
import { type Core, createCore } from './core.ts'
import {
  closeServer,
  createAdminServer,
  createAgentServer,
  createBootServer,
} from './http-servers.ts'
import { importImage } from './import/import-image.ts'
import { lintImage } from './import/lint-image.ts'
import { Spool } from './import/spool.ts'
import { listen } from './listening.ts'
import type { Log } from './log.ts'
import { IpxeFolder } from './pxe/ipxe-folder.ts'
import { PxeServices } from './pxe/pxe-services.ts'
import { LevelStateStore } from './state/level-state-store.ts'
import {
  adminSocketPath,
  auditFolder,
  capturesFolder,
  databaseFolder,
  ensureStateFolder,
  spoolFolder,
  storeFolder,
  tracesFolder,
  writesFolder,
} from './state/state-folder.ts'
import { ContentStore } from './store/content-store.ts'
import { STREAM_LIMITS, type StreamLimits, StreamServer } from './stream/stream-server.ts'
import { enrolSecret, ensureServerKey, prepareRollOver, type ServerKey } from './tls/server-key.ts'
import { versionResigner, versionSigner } from './tls/version-signer.ts'
import { FolderTraceFiles } from './traces/trace-files.ts'

export interface RunningServer {
  readonly httpPort: number
  readonly tlsPort: number
  /** Absent without administration from afar. */
  readonly adminPort?: number
  readonly pin: string
  /** Ends sessions, saves and closes everything. */
  stop(): Promise<void>
}

export interface ServeDeps {
  readonly log: Log
  readonly streamLimits?: StreamLimits
}

/**
 * Starts the server and returns when it is ready.
 * @throws {BootwireError} DATABASE_IN_USE, PORT_TAKEN, STATE_UNREADABLE, PERMISSION_DENIED
 */
export async function startServer(config: ServeConfig, deps: ServeDeps): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack()
  await ensureStateFolder(config.stateFolder)
  const socketPath = adminSocketPath(config.stateFolder)
  const store = await LevelStateStore.open(databaseFolder(config.stateFolder))
  opened.defer(() => store.close())
  const key = await ensureServerKey(config.stateFolder)
  const chunkStore = await ContentStore.open(storeFolder(config.stateFolder), {
    sign: versionSigner(key),
  })
  opened.defer(() => chunkStore.close())
  const bootFiles = await BootFiles.open(config.stateFolder)
  const spool = await Spool.open(spoolFolder(config.stateFolder))
  const { log } = deps
  const traceFiles = await FolderTraceFiles.open(tracesFolder(config.stateFolder), log)
  const parts = {
    store,
    chunkStore,
    traceFiles,
    bootFiles,
    writesFolder: writesFolder(config.stateFolder),
  }
  const core = createCore({ ...config, ...parts, now: Date.now, log })
  opened.defer(() => core.bootSets.close())
  opened.defer(() => core.boots.save())
  opened.defer(() => core.catalog.garbage.close())
  await sweepLeftovers(core, chunkStore)
  await warnOfMissingVDisk(config, core, log)
  const importServices = {
    ...core,
    importImage: ((request, onProgress, signal) =>
      importImage(
        request,
        { store: chunkStore, bootFiles, spool, log },
        onProgress,
        signal,
      )) satisfies Importer,
    log,
  }
  const captures = opened.use(await openCaptures(config, importServices))
  const capture = captureHandler({
    captures,
    assertRoom: (neededBytes, name) => spool.assertRoom(neededBytes, name),
    log,
  })
  const ports = await listenForClients(config, deps, { core, bootFiles, capture, key, opened })
  const tokens = new AccessTokens(store, Date.now)
  const audit = await AuditLog.open(auditFolder(config.stateFolder))
  opened.defer(() => audit.close())
  const routes = createAdminRoutes({
    tokens,
    audit,
    ...importServices,
    captures,
    chunkStore,
    lintImage: (source, report, signal) => lintImage(source, { spool, log, report, signal }),
    rollOver: () => prepareRollOver(config.stateFolder, key),
    server: { config, ...ports, pin: key.pin, startedAtMs: Date.now() },
  })
  const answers = new AdminAnswers({ routes, audit, findSubject: subjectFinder(core), log })
  const adminPort = await listenForAdministrators(config, { key, answers, tokens, log, opened })
  const admin = await AdminServer.listen(socketPath, answers)
  opened.defer(() => admin.close())
  // A server that was killed may have left what no version holds.
  core.catalog.garbage.schedule()
  const running = opened.move()
  return { ...ports, ...adminPort, pin: key.pin, stop: () => running.disposeAsync() }
}

/** What a server that was killed has left of what nobody has any more. */
async function sweepLeftovers(core: Core, chunkStore: ContentStore): Promise<void> {
  await core.boots.markInterrupted()
  await core.catalog.sweep()
  await core.traces.sweep()
  await core.lintReports.sweep(new Set(await chunkStore.listVersions()))
  await core.writes.sweep(new Set((await core.registry.list()).map(({ id }) => id)))
}

async function openCaptures(
  { stateFolder }: ServeConfig,
  services: VDiskRoutesServices,
): Promise<Captures> {
  return await Captures.open({
    folder: capturesFolder(stateFolder),
    importImage: async (path, wish, onProgress, signal) => {
      const progress = (update: unknown) => onProgress(update as ImportProgress)
      const options = v.parse(importOptionsSchema, wish)
      const result = await importVDisk(services, { path }, options, { signal, progress })
      return result.version
    },
    now: Date.now,
    log: services.log,
  })
}

async function listenForAdministrators(
  { address, adminPort }: ServeConfig,
  parts: {
    readonly key: ServerKey
    readonly answers: AdminAnswers
    readonly tokens: AccessTokens
    readonly log: Log
    readonly opened: AsyncDisposableStack
  },
): Promise<{ readonly adminPort?: number }> {
  if (adminPort === undefined) return {}
  const server = createAdminServer(parts.key)
  parts.opened.defer(() => closeServer(server))
  const remote = new RemoteAdmin(parts)
  server.on('request', remote.handle)
  return { adminPort: await listen(server, { address, port: adminPort, option: '--admin-port' }) }
}

/** No error: machines may wait for what is imported next. */
async function warnOfMissingVDisk(
  { unknownClients }: ServeConfig,
  { catalog }: Core,
  log: Log,
): Promise<void> {
  if (unknownClients.kind !== 'vdisk') return
  const { vdisk } = unknownClients
  if ((await catalog.tryGet(vdisk)) !== undefined) return
  log.warn(`there is no vDisk "${vdisk}" for unknown clients yet: they wait until it is imported`)
}

async function listenForClients(
  config: ServeConfig,
  { log, streamLimits = STREAM_LIMITS }: ServeDeps,
  parts: {
    readonly core: Core
    readonly bootFiles: BootFiles
    readonly capture: ReturnType<typeof captureHandler>
    readonly key: ServerKey
    readonly opened: AsyncDisposableStack
  },
): Promise<{ readonly httpPort: number; readonly tlsPort: number }> {
  const { core, key, bootFiles, capture, opened } = parts
  const { address, serverName, menuSeconds, unknownClients } = config
  const vdiskForAnyone = unknownClients.kind === 'vdisk' ? unknownClients.vdisk : undefined
  const agentServer = createAgentServer(key)
  opened.defer(() => closeServer(agentServer))
  const stream = new StreamServer(
    {
      ...core,
      settings: {
        serverName,
        menuSeconds,
        vdiskForAnyone,
        enrolSecret: enrolSecret(key),
        resign: versionResigner(key),
      },
      now: Date.now,
      log,
    },
    streamLimits,
  )
  opened.defer(() => stream.close())
  agentServer.on('upgrade', stream.upgrade)
  const tlsPort = await listen(agentServer, { address, port: config.tlsPort, option: '--tls-port' })
  const ipxe = new IpxeFolder(config.ipxeFolder)
  const memtest = await findMemtest()
  const handler = createBootHandler({
    ...createBootPlanner({ ...core, now: Date.now }),
    pin: key.pin,
    tlsPort,
    agentImagePath: config.agentImagePath,
    kernelParameters: config.kernelParameters,
    bootFiles,
    findProgram: (name) => ipxe.find(name),
    memtest,
    otherServers: config.otherServers,
    log,
  })
  const bootServer = createBootServer()
  opened.defer(() => closeServer(bootServer))
  agentServer.on('request', (request, response) => {
    if (request.url === KEY_CHAIN_PATH) sendKeyChain(key.chain, response)
    else if (!capture(request, response)) handler(request, response)
  })
  bootServer.on('request', handler)
  const httpPort = await listen(bootServer, {
    address,
    port: config.httpPort,
    option: '--http-port',
  })
  await startPxe(config, { ipxe, httpPort, hasMemtest: memtest !== undefined, log, opened })
  return { httpPort, tlsPort }
}

async function startPxe(
  { pxe, otherServers: otherUrls }: ServeConfig,
  parts: {
    readonly ipxe: IpxeFolder
    readonly httpPort: number
    readonly hasMemtest: boolean
    readonly log: Log
    readonly opened: AsyncDisposableStack
  },
): Promise<void> {
  if (!pxe.hasProxyDhcp && !pxe.hasTftp) return
  const { hasMemtest, opened, ...rest } = parts
  const services = await PxeServices.start({
    ...pxe,
    ...rest,
    paths: { script: ENTRY_SCRIPT_PATH, program: programPath },
    renderEntryScript: (serverUrl) => renderEntryScript({ serverUrl, otherUrls, hasMemtest }),
  })
  opened.use(services)
}
