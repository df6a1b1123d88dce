/**
 * One boot of this machine, from its network card to an attached vDisk. What can wait for somebody
 * waits here, with a screen that says for whom; what cannot be mended is thrown.
 */
import { release } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { describeError, isRetryable } from '#shared/errors.ts'
import { nameOf } from '#shared/tls/pinned-tls.ts'
import { formatBytes } from '#shared/units.ts'
import type { Opened } from '#shared/wire/messages.ts'
import type { setClock } from '../machine/clock.ts'
import { availableMemoryBytes } from '../machine/memory.ts'
import { readMachineFacts } from '../machine/read-facts.ts'
import { uptimeSeconds } from '../machine/uptime.ts'
import { RAM_TIER_BYTES_DEFAULT } from '../ram-tier/ram-tier.ts'
import type { Consoles } from '../screen/consoles.ts'
import { WaitScreen } from '../screen/wait-screen.ts'
import { formatWaited } from '../screen/waited-time.ts'
import { AgentSession, type AgentSessionOptions } from '../session/agent-session.ts'
import type { SupervisorControl } from '../supervisor/supervisor-control.ts'
import type { AgentContext } from './agent-context.ts'
import { type Chosen, chooseAndOpen } from './choose-vdisk.ts'
import { writeClientSettings } from './client-settings-files.ts'
import { cmdlineFor, downloadKernel, type KernelFiles, type VdiskKernel } from './kernel-switch.ts'
import { bootInterface, type NetworkUp, networkUp } from './network.ts'
import { type Resume, removeResume, writeResume } from './resume-file.ts'
import { writeRootEnv } from './root-env.ts'
import type { RunFolder } from './run-folder.ts'
import { DEVICE_PATH, type ServedVdisk } from './served-vdisk.ts'
import type { Technician } from './technician.ts'
import { chooseWritePlaces, describePlaces } from './write-places.ts'

export interface BootParts {
  readonly context: AgentContext
  readonly runFolder: RunFolder
  readonly consoles: Consoles
  readonly supervisor: SupervisorControl
  /** When the agent began. */
  readonly startedUptimeSeconds: number
  readonly attach: (resume: Resume, session: AgentSession) => Promise<ServedVdisk>
  /** Room on the local disk for what is written over that vDisk; undefined when it has no write area. */
  readonly areaBytes: (opened: Opened) => Promise<number | undefined>
  /** What the next agent would wait for, should this one die. */
  readonly machine: () => Promise<Pick<Resume, 'hasLocalDisk' | 'hasKey'>>
  readonly setClock: typeof setClock
  readonly technician?: Pick<Technician, 'gone' | 'leave'>
  /** Between tries to load a kernel; only given by tests. */
  readonly downloadPauseMs?: number
  /** Default is `createSession`. */
  readonly newSession?: typeof createSession
}

export interface BootedClient {
  readonly session: AgentSession
  readonly vdisk: ServedVdisk
  readonly hostname: string
}

/** In /run: a kernel and its archives are there for a moment, before everything else is. */
const KERNEL_FOLDER = 'kexec'

/** Long enough to read why it failed. */
const DOWNLOAD_PAUSE_MS = 5_000

/** @throws {BootwireError} ATTACH_FAILED, KEXEC_FAILED, CLIENT_MEMORY, … */
export async function bootClient(parts: BootParts): Promise<BootedClient> {
  const { context, consoles, runFolder } = parts
  consoles.log(`agent ${context.version} on kernel ${release()}`)
  const network = await waitForNetwork(parts)
  const facts = readMachineFacts(network.interfaceName)
  const { newSession = createSession } = parts
  const session = newSession(context, network.interfaceName)
  session.phase('agent', parts.startedUptimeSeconds)
  session.phase('network')
  consoles.log(
    `${network.interfaceName} has ${network.address}; connecting to ${nameOf(session.connection.server)}`,
  )
  session.start()
  const chosen = await chooseAndOpen({
    session,
    consoles,
    facts,
    presetVdisk: context.parameters.vdisk,
  })
  // Nothing goes on under their eyes.
  await parts.technician?.gone()
  session.phase('chosen')
  mendClock(parts, session)
  try {
    const vdisk = await attachChosen(parts, session, chosen)
    return { session, vdisk, hostname: chosen.identity.hostname }
  } catch (error) {
    session.notice('error', error instanceof Error ? error.message : String(error))
    throw error
  } finally {
    runFolder.remove(KERNEL_FOLDER)
  }
}

export function createSession(
  context: AgentContext,
  bootInterface: string,
  options: Pick<AgentSessionOptions, 'firstPushBytes' | 'key' | 'trust'> = {},
): AgentSession {
  return new AgentSession({
    ...options,
    joinToken: context.parameters.joinToken,
    servers: context.parameters.servers,
    pin: context.parameters.pin,
    agentVersion: context.version,
    bootId: context.bootId,
    facts: readMachineFacts(bootInterface),
    kernelRelease: release(),
    uptimeSeconds,
  })
}

async function waitForNetwork({ context, runFolder, consoles }: BootParts): Promise<NetworkUp> {
  const [server] = context.parameters.servers
  let screen: Promise<WaitScreen> | undefined
  const show = (matter: Error) => {
    const state = {
      facts: readMachineFacts(''),
      server: { address: server === undefined ? '' : nameOf(server), isConnected: false },
      matter,
    }
    if (screen === undefined) screen = WaitScreen.open(consoles, state)
    else void screen.then((open) => open.update(state))
  }
  const network = await networkUp(runFolder, show, new AbortController().signal)
  await (await screen)?.[Symbol.asyncDispose]()
  return network
}

async function attachChosen(
  parts: BootParts,
  session: AgentSession,
  { identity, opened }: Chosen,
): Promise<ServedVdisk> {
  const { context, consoles, runFolder } = parts
  const { kernel } = opened
  if (kernel !== undefined && kernel.id !== context.parameters.kernelId) {
    await switchKernel(parts, session, opened.vdisk, kernel)
  }
  consoles.log(`booting ${opened.vdisk} (${formatBytes(opened.sizeBytes)}) as ${identity.hostname}`)
  const memoryBytes = availableMemoryBytes()
  const places = chooseWritePlaces(opened.writeCache, {
    memoryBytes,
    ramTierBytes: context.parameters.ramCacheBytes ?? RAM_TIER_BYTES_DEFAULT,
    ...definedArea(await parts.areaBytes(opened)),
    hasServer: opened.writes !== undefined,
  })
  consoles.log(describePlaces(places, memoryBytes))
  const resume = {
    bootId: context.bootId,
    hostname: identity.hostname,
    machineId: identity.machineId,
    opened,
    places,
    ...(await parts.machine()),
  }
  // Before the attach: from then on a root may wait for whoever comes after this process.
  writeResume(runFolder, resume)
  const vdisk = await attachOrForget(parts, resume, session)
  session.phase('attached')
  writeClientSettings(runFolder, session.identity ?? identity)
  // From then on the consoles are the system's.
  await parts.technician?.leave()
  writeRootEnv(runFolder, DEVICE_PATH, resume)
  return vdisk
}

/** Systems trust their clock: certificates, logs, file times. */
function mendClock({ consoles, setClock }: BootParts, session: AgentSession): void {
  const { serverNowMs } = session
  const offMs = serverNowMs === undefined ? undefined : setClock(serverNowMs)
  if (offMs === undefined) return
  const text = `The clock was ${formatWaited(Math.abs(offMs))} ${offMs < 0 ? 'slow' : 'fast'}; it is set by the server's`
  consoles.log(text)
  session.notice('warning', text)
}

function definedArea(areaBytes: number | undefined): { areaBytes?: number } {
  return areaBytes === undefined ? {} : { areaBytes }
}

/** What could not be attached is nothing to go on with. */
async function attachOrForget(
  { runFolder, attach }: BootParts,
  resume: Resume,
  session: AgentSession,
): Promise<ServedVdisk> {
  try {
    return await attach(resume, session)
  } catch (error) {
    removeResume(runFolder)
    throw error
  }
}

/** Does not come back but with an error. @throws {BootwireError} */
async function switchKernel(
  parts: BootParts,
  session: AgentSession,
  vdisk: string,
  kernel: VdiskKernel,
): Promise<void> {
  const { context, consoles, supervisor } = parts
  const { parameters, bootId, cmdline } = context
  consoles.log(`loading kernel ${kernel.release}, which ${vdisk} brings`)
  const files = await loadKernel(parts, session, kernel)
  await session.bye('kexec')
  const next = { ...parameters, kernelId: kernel.id, bootId, vdisk }
  try {
    await supervisor.kexec(files.kernelPath, files.initrdPath, cmdlineFor(cmdline, next))
  } catch (error) {
    tellAnew(parts, error)
    throw error
  }
}

/** A server that goes away meanwhile comes back, or another one has the files. */
async function loadKernel(
  { consoles, runFolder, downloadPauseMs = DOWNLOAD_PAUSE_MS }: BootParts,
  session: AgentSession,
  kernel: VdiskKernel,
): Promise<KernelFiles> {
  for (;;) {
    const connection = { server: session.connection.server, pin: session.trust.known }
    try {
      return await downloadKernel(kernel, connection, runFolder.pathOf(KERNEL_FOLDER))
    } catch (error) {
      if (!isRetryable(error)) throw error
      consoles.log(describeError(error))
    }
    await sleep(downloadPauseMs)
  }
}

/** The session has said goodbye; another one tells the server why nothing came of it. */
function tellAnew(
  { context, runFolder, newSession = createSession }: BootParts,
  error: unknown,
): void {
  const session = newSession(context, bootInterface(runFolder))
  session.notice('error', error instanceof Error ? error.message : String(error))
  session.start()
}
