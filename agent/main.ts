/**
 * The agent: boots this machine from a server and serves its root disk until it is switched off.
 * Started by the supervisor in the initramfs, and started again when it dies: with a root to serve
 * (`resume.json`) it goes on where its predecessor was.
 */
import { describeError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { FIRST_PUSH_BYTES_MAX } from '#shared/wire/limits.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { SECTOR_BYTES } from './block/block-size.ts'
import type { OverlayNotice, WriteServer } from './block/open-overlay.ts'
import { tableLength } from './block/write-cache-files.ts'
import { type AgentContext, readContext } from './boot/agent-context.ts'
import { type BootedClient, bootClient, createSession } from './boot/boot-client.ts'
import { DeviceIdentity } from './boot/device-identity.ts'
import {
  type DiskCacheMessage,
  diskCacheProblem,
  diskCopyMessage,
} from './boot/disk-cache-message.ts'
import { followIdentity } from './boot/follow-identity.ts'
import { LocalDisk } from './boot/local-disk.ts'
import { bootAddress, bootInterface } from './boot/network.ts'
import { overlayMessage } from './boot/overlay-message.ts'
import { type Resume, readResume } from './boot/resume-file.ts'
import { writeRootEnv } from './boot/root-env.ts'
import { RunFolder } from './boot/run-folder.ts'
import { serveUntilShutdown } from './boot/serve-until-shutdown.ts'
import { DEVICE_PATH, ServedVdisk } from './boot/served-vdisk.ts'
import { Technician } from './boot/technician.ts'
import type { WritePlaces } from './boot/write-places.ts'
import { DiskCopy } from './fetch/disk-copy.ts'
import { NO_LOCAL_COPY } from './fetch/local-copy.ts'
import { setClock } from './machine/clock.ts'
import { macOfCard } from './machine/read-facts.ts'
import { uptimeSeconds } from './machine/uptime.ts'
import { keepDhcpLease } from './network/dhcp-lease.ts'
import { activeConsolePaths } from './screen/console-paths.ts'
import { Consoles } from './screen/consoles.ts'
import { LoggedInUsers } from './screen/logged-in-users.ts'
import { type AgentSession, FIRST_PUSH_BYTES } from './session/agent-session.ts'
import { signerOf, verifiedRoot } from './session/opened-version.ts'
import { ServerTrust } from './session/server-trust.ts'
import { SupervisorControl } from './supervisor/supervisor-control.ts'
import { EXTENT_BYTES } from './write-area/area-layout.ts'
import { type AreaShare, openShare } from './write-area/area-share.ts'

const startedUptimeSeconds = uptimeSeconds()
// systemd spares a storage daemon; whoever else sends these must not take the root away.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)

const runFolder = new RunFolder()
const consolePaths = activeConsolePaths()
const consoles = new Consoles(consolePaths)
const users = new LoggedInUsers(consolePaths)

/** There is one at a time; whoever asks for it does so later. */
let session: AgentSession | undefined
let localDisk: LocalDisk | undefined
let diskCopy: DiskCopy | undefined

async function run(): Promise<void> {
  const resume = readResume(runFolder)
  const context = { ...readContext(), ...(resume && { bootId: resume.bootId }) }
  const disk = findLocalDisk(context)
  localDisk = disk
  const identity = new DeviceIdentity({
    store: async () => (resume?.hasLocalDisk === false ? undefined : await disk.identity()),
    onProblem: (problem) => consoles.log(problem),
    ...(resume?.hasKey === false && { openTpm: async () => undefined }),
  })
  const supervisor = SupervisorControl.fromDescriptor(context.controlFd)
  supervisor.watchMe()
  // An agent that was restarted has not seen how the boot began.
  const isBoot = resume === undefined
  const attach = async (what: Resume, session: AgentSession) =>
    await attachVdisk(what, isBoot, session, context, supervisor)
  const newSession: typeof createSession = (of, card) => {
    const trust = new ServerTrust(of.parameters.pin, () => identity.servers())
    session = createSession(of, card, { firstPushBytes, trust, key: () => identity.key() })
    return session
  }
  const client =
    resume === undefined
      ? await withTechnician(context, (technician) =>
          bootClient({
            technician,
            context,
            runFolder,
            consoles,
            supervisor,
            startedUptimeSeconds,
            attach,
            areaBytes,
            machine: async () => ({
              hasLocalDisk: disk.isThere,
              hasKey: (await identity.key()) !== undefined,
            }),
            setClock,
            newSession,
          }),
        )
      : await resumeClient(resume, newSession(context, bootInterface(runFolder)), attach)
  holdLease(client)
  if (client.session.identity?.isAuthenticated === true) {
    await identity.remember(client.session.trust.known)
  }
  void followIdentity({ session: client.session, runFolder, consoles: { announce } })
  await serveUntilShutdown({ ...client, runFolder, consoles: { announce } })
  process.exit(0)
}

/** Somebody may look at the links of the chain until the system has the consoles. */
async function withTechnician(
  { parameters }: AgentContext,
  boot: (technician: Technician) => Promise<BootedClient>,
): Promise<BootedClient> {
  const { servers, isCheck = false } = parameters
  await using technician = new Technician({ runFolder, consoles, servers, session: () => session })
  // Nobody waits for the terminals: stopped ones take a second.
  void technician.listen()
  if (isCheck) technician.show()
  return await boot(technician)
}

/** A root waits: attach first, the session comes when the server is there. */
async function resumeClient(
  resume: Resume,
  session: AgentSession,
  attach: (resume: Resume, session: AgentSession) => Promise<ServedVdisk>,
): Promise<BootedClient> {
  session.resume(resume.opened)
  session.notice('warning', 'The agent was restarted; the system goes on')
  session.start()
  const vdisk = await attach(resume, session)
  // The predecessor may not have come that far.
  if (runFolder.read('root-mounted') === undefined) writeRootEnv(runFolder, DEVICE_PATH, resume)
  return { session, vdisk, hostname: resume.hostname }
}

async function attachVdisk(
  { opened, bootId, places, hasLocalDisk }: Resume,
  isBoot: boolean,
  session: AgentSession,
  { programFolder, nbdFd }: AgentContext,
  supervisor: SupervisorControl,
): Promise<ServedVdisk> {
  if (hasLocalDisk) await localDisk?.settled()
  const localCopy = localDisk === undefined ? NO_LOCAL_COPY : copyOn(localDisk, opened)
  const vdisk = await ServedVdisk.attach({
    opened,
    // What an agent before this one has verified is in memory of this machine's own.
    root: verifiedRoot(opened, isBoot ? session.trust.known : signerOf(opened)),
    isBoot,
    bootId,
    places,
    writeCacheFolder: runFolder.pathOf('write-cache'),
    writeCacheShare: await writeShare(opened, bootId, places),
    writeServer: await writeServer(session, isBoot, places),
    transport: session,
    localCopy,
    supervisor,
    nbdFd,
    programFolder,
    onNotice: (notice) => tell(session, notice),
  })
  session.onHydrate((hydration) => vdisk.hydrate(hydration))
  return vdisk
}

/** Room on the local disk for what is written over this vDisk; undefined when it has no write area. */
async function areaBytes({ vdisk, writeCache: { isKept } }: Opened): Promise<number | undefined> {
  const found = await localDisk?.writeArea()
  if (found === undefined) return undefined
  const { area } = found
  // What lies there of earlier boots goes, but for what is kept.
  const own = area.caches.filter((it) =>
    it.bootId === undefined ? isKept && it.vdisk === vdisk : true,
  )
  const ownExtents = own.reduce((sum, { data }) => sum + data.length, 0)
  return area.freeBytes + ownExtents * EXTENT_BYTES
}

/** The part of what is written that lies on the server. */
async function writeServer(
  { writes }: AgentSession,
  isBoot: boolean,
  { server }: WritePlaces,
): Promise<WriteServer | undefined> {
  if (server === undefined) return undefined
  // An agent that was restarted has its predecessor's table.
  const writeMap = isBoot ? await writes.writeMap() : []
  return { transport: writes, ...server, writeMap }
}

/** The part of what is written that lies on the local disk. */
async function writeShare(
  { vdisk, versionId, sizeBytes }: Opened,
  bootId: string,
  { diskBytes, isKept }: WritePlaces,
): Promise<AreaShare | undefined> {
  if (diskBytes === 0) return undefined
  invariant(localDisk !== undefined, 'disks are looked for first')
  const { area, path } = await localDisk.surelyWriteArea()
  return await openShare({
    area,
    path,
    key: { vdisk, versionId, sizeBytes, ...(!isKept && { bootId }) },
    ...(isKept && { tableBytes: tableLength(sizeBytes - (sizeBytes % SECTOR_BYTES)) }),
    limitBytes: diskBytes,
  })
}

function findLocalDisk({ parameters }: AgentContext): LocalDisk {
  return LocalDisk.find({
    hasServer: () => session?.isOpen === true,
    budgetBytesPerDay: parameters.cacheBudgetBytes,
    onProblem: (problem) => tellOfDisk(diskCacheProblem(problem)),
    onFound: (path) => {
      consoles.log(`local disk cache on ${path}`)
      diskCopy?.advance()
    },
  })
}

function copyOn({ cache }: LocalDisk, { vdisk, storedBytes }: Opened): DiskCopy {
  diskCopy = new DiskCopy({
    diskCache: cache,
    versionBytes: storedBytes,
    onComplete: (isComplete) => tellOfDisk(diskCopyMessage(vdisk, isComplete)),
  })
  return diskCopy
}

/** A disk that has much already has most of a boot, too; what it lacks is asked for. */
function firstPushBytes(): number {
  const usedBytes = localDisk?.cache.stats().usedBytes ?? 0
  return usedBytes > FIRST_PUSH_BYTES_MAX ? 0 : FIRST_PUSH_BYTES
}

/** For as long as this process lives: until the machine is off. */
function holdLease({ session, hostname }: BootedClient): void {
  const network = bootAddress(runFolder)
  const mac = network && macOfCard(network.interfaceName)
  if (network === undefined || mac === undefined) return
  void keepDhcpLease({
    address: network.address,
    mac,
    hostname,
    onNotice: (level, text) => session.notice(level, text),
    signal: new AbortController().signal,
  })
}

/** To everybody who sits at the running system. */
function announce(text: string): void {
  consoles.announce(text)
  users.tell(text)
}

function tellOfDisk({ level, text }: DiskCacheMessage): void {
  session?.notice(level, text)
  if (level === 'error') announce(text)
}

function tell(session: AgentSession, notice: OverlayNotice): void {
  const { level, text, isForScreen } = overlayMessage(notice)
  session.notice(level, text)
  if (isForScreen) announce(text)
}

/** With a root to serve the next agent goes on; without one, /init shows what is wrong. */
function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  // Not process.exit: that waits for threads, and one may wait for the kernel.
  if (readResume(runFolder) !== undefined) process.kill(process.pid, 'SIGKILL')
  consoles[Symbol.dispose]()
  runFolder.write('failed', `${describeError(error)}\n`)
}

run().catch(fail)
