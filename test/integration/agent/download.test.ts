/** Kernels and archives for kexec, from the server's own handler of boot files over TLS. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import type { RequestListener, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { downloadKernel, type VdiskKernel } from '#agent/boot/kernel-switch.ts'
import { appendDownload, type DownloadOptions } from '#agent/session/download.ts'
import { BootFiles, KERNEL_DESCRIPTION } from '#server/boot/boot-files.ts'
import { createBootHandler } from '#server/boot/boot-http.ts'
import { closeServer, createAgentServer } from '#server/http-servers.ts'
import { silentLog } from '#server/log.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import { MiB } from '#shared/units.ts'
import { createServerKey } from '#test/support/agent-scripted-server.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 30_000 }

const VMLINUZ = randomBytes(2 * MiB + 17)
const MODULES = randomBytes(3 * MiB)
const AGENT = randomBytes(MiB)
const KERNEL_ID = createHash('sha256').update(VMLINUZ).digest('hex')

let key: ServerKey
let temporary: TemporaryFolder
before(async () => {
  key = await createServerKey()
  temporary = await createTemporaryFolder()
})
after(async () => {
  await temporary[Symbol.asyncDispose]()
})

const path = (name: string) => join(temporary.path, name)

function optionsFor(port: number, file: string): DownloadOptions {
  return { server: { host: '127.0.0.1', port }, pin: key.pin, path: file }
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

describe('downloads from the server', TIMEOUT, () => {
  let server: ReturnType<typeof createAgentServer>
  let port: number

  before(async () => {
    const bootFiles = await BootFiles.open(temporary.path)
    await bootFiles.add(async (folder) => {
      await writeFile(join(folder, 'vmlinuz'), VMLINUZ)
      await writeFile(join(folder, 'modules.img'), MODULES)
      await writeFile(join(folder, 'extra.img'), '')
      const description = { format: 1, release: '6.1.0', devices: [] }
      await writeFile(join(folder, KERNEL_DESCRIPTION), JSON.stringify(description))
      return KERNEL_ID
    })
    await writeFile(path('agent.img'), AGENT)
    const handler = createBootHandler({
      planBoot: () => Promise.reject(new Error('nobody boots here')),
      stampKernelSent: () => undefined,
      pin: key.pin,
      tlsPort: 1,
      agentImagePath: path('agent.img'),
      bootFiles,
      log: silentLog(),
    })
    server = createAgentServer(key).on('request', handler)
    port = await listen(server)
  })
  after(async () => {
    await closeServer(server)
  })

  const kernel = (fields: Partial<VdiskKernel> = {}): VdiskKernel => ({
    id: KERNEL_ID,
    release: '6.1.0',
    kernelPath: `/files/kernel/${KERNEL_ID}/vmlinuz`,
    initrdPaths: ['/files/agent.img', `/files/kernel/${KERNEL_ID}/modules.img`],
    ...fields,
  })
  const connection = () => ({ server: { host: '127.0.0.1', port }, pin: key.pin })

  it('appendDownload appends the very bytes of the file', async () => {
    const local = path('appended')
    await appendDownload(optionsFor(port, '/files/agent.img'), local)
    await appendDownload(optionsFor(port, `/files/kernel/${KERNEL_ID}/vmlinuz`), local)
    assert.ok((await readFile(local)).equals(Buffer.concat([AGENT, VMLINUZ])))
  })

  it('NOT_FOUND: a file the server does not have', async () => {
    await assert.rejects(appendDownload(optionsFor(port, '/files/none'), path('none')), {
      code: 'NOT_FOUND',
      message: `Cannot load /files/none from 127.0.0.1:${port}: it answers 404`,
    })
  })

  it('KEY_MISMATCH: another key', async () => {
    const options = { ...optionsFor(port, '/files/agent.img'), pin: 'A'.repeat(43) }
    await assert.rejects(appendDownload(options, path('pin')), { code: 'KEY_MISMATCH' })
  })

  it('ends with the reason of its signal', async () => {
    const options = { ...optionsFor(port, '/files/agent.img'), signal: AbortSignal.abort('enough') }
    await assert.rejects(appendDownload(options, path('signal')), (error) => error === 'enough')
  })

  it('CLIENT_MEMORY: a file there is no room for', async () => {
    await assert.rejects(appendDownload(optionsFor(port, '/files/agent.img'), '/dev/full'), {
      code: 'CLIENT_MEMORY',
    })
  })

  it('downloadKernel brings the kernel and its archives, and nothing of an earlier try', async () => {
    const folder = path('kexec')
    for (let tries = 0; tries < 2; tries += 1) {
      const files = await downloadKernel(kernel(), connection(), folder)
      assert.ok((await readFile(files.kernelPath)).equals(VMLINUZ))
      assert.ok((await readFile(files.initrdPath)).equals(Buffer.concat([AGENT, MODULES])))
    }
  })

  it('KEXEC_FAILED: the kernel is not the one the vDisk brings', async () => {
    const other = kernel({ id: 'ab'.repeat(32) })
    await assert.rejects(downloadKernel(other, connection(), path('other')), {
      code: 'KEXEC_FAILED',
      message: `Cannot start kernel 6.1.0: the server sent ${KERNEL_ID}, expected ${'ab'.repeat(32)}`,
    })
  })
})

/** A server that answers every request like this. */
async function answering(
  listener: RequestListener,
): Promise<AsyncDisposable & { readonly port: number; readonly reset: () => void }> {
  const server = createTlsServer({ key: key.keyPem, cert: key.certPem }, listener)
  const sockets: Socket[] = []
  server.on('connection', (socket: Socket) => sockets.push(socket))
  const port = await listen(server)
  const dispose = async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  const reset = () => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  return { port, reset, [Symbol.asyncDispose]: dispose }
}

describe('a server that fails in the middle of a download', TIMEOUT, () => {
  it('SERVER_UNREACHABLE: the connection breaks off', async () => {
    await using server = await answering((_, response) => {
      response.writeHead(200, { 'content-length': 1000 })
      response.write(Buffer.alloc(500), () => response.socket?.destroy())
    })
    await assert.rejects(appendDownload(optionsFor(server.port, '/x'), path('broken')), {
      code: 'SERVER_UNREACHABLE',
    })
  })

  it('SERVER_UNREACHABLE: the connection is reset', async () => {
    await using server = await answering((_, response) => {
      response.writeHead(200, { 'content-length': 1000 })
      response.write(Buffer.alloc(500), () => server.reset())
    })
    await assert.rejects(appendDownload(optionsFor(server.port, '/x'), path('reset')), {
      code: 'SERVER_UNREACHABLE',
      message: /ECONNRESET$/,
    })
  })

  it('SERVER_UNREACHABLE: it goes silent', async () => {
    await using server = await answering((_, response) => {
      response.writeHead(200, { 'content-length': 1000 })
      response.write(Buffer.alloc(500))
    })
    const options = { ...optionsFor(server.port, '/x'), silenceTimeoutMs: 100 }
    await assert.rejects(appendDownload(options, path('silent')), {
      code: 'SERVER_UNREACHABLE',
      message: `Cannot load /x from 127.0.0.1:${server.port}: nothing came for 0.1 s`,
    })
  })

  it('SERVER_UNREACHABLE: it cannot read the file now, or answers no HTTP', async () => {
    await using failing = await answering((_, response) => response.writeHead(503).end('no'))
    await using garbling = await answering((request) => request.socket.end('garbage\r\n\r\n'))
    for (const { port } of [failing, garbling]) {
      await assert.rejects(appendDownload(optionsFor(port, '/x'), path('failing')), {
        code: 'SERVER_UNREACHABLE',
      })
    }
  })
})
