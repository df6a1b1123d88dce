/**
 * Boot scripts and boot files, over HTTP for firmware and iPXE and over TLS for kexec. Files are
 * looked up in a table; nothing a client sends becomes a path. Nothing here tells one client about
 * another.
 */
import { type FileHandle, open } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import type { Log } from '#server/log.ts'
import { peerAddress } from '#server/peer-address.ts'
import { ERROR_KINDS } from '#shared/errors.ts'
import type { KeyChain } from '#shared/identity/key-chain.ts'
import { KiB } from '#shared/units.ts'
import { type BootFiles, EXTRA_ARCHIVE, KERNEL_IMAGE, MODULES_ARCHIVE } from './boot-files.ts'
import {
  AGENT_IMAGE_PATH,
  ASK_PATH,
  AUTOEXEC_PATH,
  ENTRY_SCRIPT_PATH,
  kernelFilePath,
  MEMTEST_PATH,
  parseKernelFilePath,
  parseProgramPath,
} from './boot-paths.ts'
import type { BootPlan, BootPlanner } from './boot-plan.ts'
import { parseBootId, parseBootRequest, reachedAt, reachedUrl } from './boot-request.ts'
import {
  assertKernelParameters,
  type InitrdFile,
  renderEntryScript,
  renderKernelScript,
  renderMessageScript,
  type ScriptServers,
} from './boot-script.ts'
import type { MemtestFiles } from './memtest-files.ts'

export interface BootHttpDeps extends BootPlanner {
  /** SHA-256 of the server key, as `BootParameters.pin`. */
  readonly pin: string
  readonly tlsPort: number
  readonly agentImagePath: string
  readonly bootFiles: Pick<BootFiles, 'find' | 'hasDriver'>
  /** Programs for firmware that loads over HTTP, by their names. */
  readonly findProgram?: (name: string) => Promise<string | undefined>
  readonly memtest?: MemtestFiles | undefined
  /** Other servers with the same vDisks, as `http://HOST:PORT`: asked when this one is silent. */
  readonly otherServers?: readonly string[]
  /** Added to every client's kernel command line. */
  readonly kernelParameters?: string
  readonly log: Log
}

type KernelPlan = Extract<BootPlan, { kind: 'kernel' }>

/** iPXE's request with a long serial number has 300 characters. */
const URL_LENGTH_MAX = 2048

const SCRIPT_TYPE = 'text/plain; charset=utf-8'

/** Bytes read ahead per download: 60 machines at once hold 15 MB. */
const READ_AHEAD_BYTES: number = 256 * KiB

/** @throws {BootwireError} INVALID_ARGUMENT when the kernel parameters cannot be put into a script */
export function createBootHandler(
  deps: BootHttpDeps,
): (request: IncomingMessage, response: ServerResponse) => void {
  assertKernelParameters(deps.kernelParameters ?? '')
  return (request, response) => {
    respond(deps, request, response).catch((error: unknown) => {
      deps.log.error({ err: error, url: request.url }, 'boot request failed')
      if (!response.headersSent) sendText(response, 500, 'The server failed; its log says why')
      else response.destroy()
    })
  }
}

async function respond(
  deps: BootHttpDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method, url = '' } = request
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    return sendText(response, 405, 'Only GET and HEAD')
  }
  if (url.length > URL_LENGTH_MAX) return sendText(response, 414, 'The address is too long')
  const { path, query } = splitUrl(url)
  if (path === ENTRY_SCRIPT_PATH || path === AUTOEXEC_PATH) {
    return sendText(response, 200, renderEntryScript(scriptServers(deps, request)))
  }
  if (path === ASK_PATH) return await sendBootScript(deps, { request, query, response })
  const file = await findFile(deps, path)
  if (file === undefined) return sendText(response, 404, 'There is no such file on this server')
  const bootId = parseBootId(query)
  const isSent = await sendFile(deps.log, file, { request, response })
  if (isSent && bootId !== undefined) deps.stampKernelSent(bootId)
}

/** Not by URL: that would decode and join, and what is looked up must be what was sent. */
function splitUrl(url: string): { readonly path: string; readonly query: URLSearchParams } {
  const mark = url.indexOf('?')
  if (mark < 0) return { path: url, query: new URLSearchParams() }
  return { path: url.slice(0, mark), query: new URLSearchParams(url.slice(mark + 1)) }
}

async function findFile(
  { agentImagePath, bootFiles, findProgram, memtest }: BootHttpDeps,
  path: string,
): Promise<string | undefined> {
  if (path === AGENT_IMAGE_PATH) return agentImagePath
  if (path.startsWith(MEMTEST_PATH)) return memtest?.get(path.slice(MEMTEST_PATH.length + 1))
  const program = parseProgramPath(path)
  if (program !== undefined) return await findProgram?.(program)
  const named = parseKernelFilePath(path)
  return named && bootFiles.find(named.kernelId, named.file)
}

async function sendBootScript(
  deps: BootHttpDeps,
  {
    request,
    query,
    response,
  }: {
    readonly request: IncomingMessage
    readonly query: URLSearchParams
    readonly response: ServerResponse
  },
): Promise<void> {
  // Planning opens the record of a boot, which nobody begins by a HEAD.
  if (request.method === 'HEAD') return sendText(response, 200, '')
  const { facts, device } = parseBootRequest(query)
  const address = peerAddress(request.socket)
  const plan = (await missingFiles(deps)) ?? (await deps.planBoot(facts, address))
  deps.log.info({ ...facts, address, plan: plan.kind }, 'boot script')
  const server = reachedAt(request)
  const servers = scriptServers(deps, request)
  const script =
    plan.kind === 'kernel'
      ? kernelScript(deps, plan, { server, device, servers })
      : renderMessageScript({ ...servers, reason: plan.reason, action: plan.action, server })
  sendText(response, 200, script)
}

function scriptServers(
  { otherServers = [], memtest }: BootHttpDeps,
  request: IncomingMessage,
): ScriptServers {
  const serverUrl = reachedUrl(request)
  return {
    serverUrl,
    otherUrls: otherServers.filter((url) => url !== serverUrl),
    hasMemtest: memtest !== undefined,
  }
}

/** What this server's former keys have said of those that followed. */
export function sendKeyChain(chain: KeyChain, response: ServerResponse): void {
  sendText(response, 200, JSON.stringify(chain))
}

/** A plan that says so when the agent was not built yet. */
async function missingFiles({ agentImagePath }: BootHttpDeps): Promise<BootPlan | undefined> {
  try {
    await using _ = await open(agentImagePath)
    return undefined
  } catch {
    return {
      kind: 'none',
      reason: `The server has no initramfs for its clients: ${agentImagePath} cannot be read`,
      action: ERROR_KINDS.ARTEFACT_MISSING.action,
    }
  }
}

function kernelScript(
  { pin, tlsPort, bootFiles, kernelParameters = '' }: BootHttpDeps,
  { kernel, vdisk, bootId }: KernelPlan,
  client: {
    readonly server: string
    readonly device: string | undefined
    readonly servers: ScriptServers
  },
): string {
  const { id } = kernel
  const needsExtra = client.device === undefined || !bootFiles.hasDriver(id, client.device)
  const archives = [MODULES_ARCHIVE, ...(needsExtra ? [EXTRA_ARCHIVE] : [])]
  const initrds: InitrdFile[] = [
    { name: 'agent.img', path: AGENT_IMAGE_PATH },
    ...archives.map((name) => ({ name, path: kernelFilePath(id, name) })),
  ]
  return renderKernelScript({
    ...client.servers,
    title: `loading ${vdisk ?? 'the boot menu'} (kernel ${kernel.release}) from ${client.server}`,
    kernelPath: kernelFilePath(id, KERNEL_IMAGE),
    initrds: bootId === undefined ? initrds : withBootId(initrds, bootId),
    parameters: {
      servers: [{ host: client.server, port: tlsPort }],
      pin,
      kernelId: id,
      ...(bootId !== undefined && { bootId }),
    },
    kernelParameters,
  })
}

/** The last file names the boot, so that the server knows whose kernel is complete when it is sent. */
function withBootId(initrds: readonly InitrdFile[], bootId: string): InitrdFile[] {
  return initrds.map((initrd, index) =>
    index === initrds.length - 1 ? { ...initrd, path: `${initrd.path}?boot=${bootId}` } : initrd,
  )
}

/** Returns true when a GET got the whole file. */
async function sendFile(
  log: Log,
  path: string,
  { request, response }: { readonly request: IncomingMessage; readonly response: ServerResponse },
): Promise<boolean> {
  const file = await tryOpen(log, path)
  if (file === undefined) {
    sendText(response, 503, 'The server cannot read this file; its log says why')
    return false
  }
  await using opened = file
  const { size } = await opened.stat()
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    'content-length': size,
  })
  if (request.method === 'HEAD' || size === 0) {
    response.end()
    return false
  }
  try {
    const options = { highWaterMark: READ_AHEAD_BYTES, autoClose: false, end: size - 1 }
    await pipeline(opened.createReadStream(options), response)
    return true
  } catch (error) {
    log.debug({ err: error, path }, 'download broken off')
    return false
  }
}

async function tryOpen(log: Log, path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path)
  } catch (error) {
    log.error({ err: error, path }, 'cannot read a boot file')
    return undefined
  }
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'content-type': SCRIPT_TYPE,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  })
  response.end(text)
}
