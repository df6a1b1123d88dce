import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, it } from 'node:test'
import { BootFiles, KERNEL_DESCRIPTION } from '#server/boot/boot-files.ts'
import { type BootHttpDeps, createBootHandler } from '#server/boot/boot-http.ts'
import type { BootFacts, BootPlan } from '#server/boot/boot-plan.ts'
import { silentLog } from '#server/log.ts'
import { MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const KERNEL_ID = 'ab'.repeat(32)
const BOOT_ID = '0123456789abcdef'
const MODULES = new Uint8Array(3 * MiB).fill(7)

interface Answer {
  readonly status: number
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: Buffer
}

describe('boot handler', () => {
  let temporary: TemporaryFolder
  let bootFiles: BootFiles
  let server: Server
  let port: number
  let plan: BootPlan
  const asked: { readonly facts: BootFacts; readonly address: string }[] = []
  const sent: string[] = []
  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = await createTemporaryFolder()
    await writeFile(path('agent.img'), 'agent')
    await writeFile(path('secret'), 'secret')
    await writeFile(path('snponly.efi'), 'ipxe')
    bootFiles = await BootFiles.open(temporary.path)
    await bootFiles.add((folder) => writeKernel(folder, KERNEL_ID))
    const deps: BootHttpDeps = {
      planBoot: async (facts, address) => {
        asked.push({ facts, address })
        return plan
      },
      stampKernelSent: (bootId) => sent.push(bootId),
      pin: 'p'.repeat(43),
      tlsPort: 8443,
      agentImagePath: path('agent.img'),
      bootFiles,
      kernelParameters: 'quiet2',
      findProgram: async (name) => (name === 'snponly.efi' ? path('snponly.efi') : undefined),
      otherServers: ['http://10.0.0.2:8080'],
      log: silentLog(),
    }
    server = createServer(createBootHandler(deps)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  })
  after(async () => {
    server.closeAllConnections()
    server.close()
    await temporary[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    plan = {
      kind: 'kernel',
      bootId: BOOT_ID,
      kernel: { id: KERNEL_ID, release: '6.1' },
      vdisk: 'lab',
    }
    asked.length = 0
    sent.length = 0
  })

  const ask = async (
    url: string,
    options: { readonly method?: string; readonly headers?: Record<string, string> } = {},
  ): Promise<Answer> => {
    const sending = request({ host: '127.0.0.1', port, path: url, agent: false, ...options }).end()
    const [response] = await once(sending, 'response')
    return {
      status: response.statusCode,
      headers: response.headers,
      body: await buffer(response),
    }
  }

  it('serves the script every machine begins with', async () => {
    const { status, headers, body } = await ask('/boot.ipxe')
    assert.equal(status, 200)
    assert.equal(headers['content-length'], String(body.length))
    assert.match(body.toString(), /^#!ipxe\n/)
    assert.deepEqual(asked, [])
  })

  it('serves the script of a client, with the address it came to', async () => {
    const headers = { host: 'boot.example.org:8080' }
    const { body } = await ask('/boot?mac=52-54-00-00-00-01&serial=s1&evil=1', { headers })
    assert.deepEqual(asked, [
      { facts: { mac: '52:54:00:00:00:01', serial: 's1' }, address: '127.0.0.1' },
    ])
    const script = body.toString()
    assert.ok(
      script.includes(` bootwire.servers=boot.example.org:8443 bootwire.pin=${'p'.repeat(43)} `),
    )
    assert.ok(script.includes(` quiet quiet2 bootwire.`))
    assert.ok(script.includes('loading lab (kernel 6.1) from boot.example.org'))
  })

  it('serves programs for firmware that loads over HTTP, and what they ask for beside themselves', async () => {
    const program = await ask('/ipxe/snponly.efi', { method: 'HEAD' })
    assert.equal(program.status, 200)
    assert.equal(program.headers['content-length'], '4')
    assert.equal((await ask('/ipxe/snponly.efi')).body.toString(), 'ipxe')
    assert.equal((await ask('/ipxe/other.efi')).status, 404)
    assert.equal((await ask('/ipxe/..%2fsecret')).status, 404)
    assert.equal((await ask('/ipxe/../secret')).status, 404)
    const headers = { host: 'boot.example.org:81' }
    const { body } = await ask('/ipxe/autoexec.ipxe', { headers })
    assert.match(
      body.toString(),
      /^chain --replace --autofree http:\/\/boot\.example\.org:81\/boot\?/m,
    )
    assert.match(body.toString(), /^chain --replace --autofree http:\/\/10\.0\.0\.2:8080\/boot\?/m)
  })

  it('loads drivers of rare cards only where the card needs them or is unknown', async () => {
    const names = async (query: string) => {
      const { body } = await ask(`/boot?${query}`)
      return [...body.toString().matchAll(/^initrd --name (\S+)/gm)].map(([, name]) => name)
    }
    assert.deepEqual(await names('bus=01-1a-f4-10-41'), ['agent.img', 'modules.img'])
    assert.deepEqual(await names('bus=01-80-86-10-0e'), ['agent.img', 'modules.img'])
    const all = ['agent.img', 'modules.img', 'extra.img']
    assert.deepEqual(await names('bus=01-80-86-10-0f'), all)
    assert.deepEqual(await names(''), all)
  })

  it('says in words why there is nothing to boot', async () => {
    plan = { kind: 'none', reason: 'No vDisk yet', action: 'Import one' }
    const { status, body } = await ask('/boot')
    assert.equal(status, 200)
    assert.match(body.toString(), /^echo No vDisk yet\necho Import one$/m)
  })

  it('says so when the agent was not built', async () => {
    await rm(path('agent.img'))
    try {
      const { body } = await ask('/boot')
      assert.match(body.toString(), /no initramfs for its clients.*cannot be read/)
      assert.match(body.toString(), /npm run initramfs/)
      assert.deepEqual(asked, [], 'no boot begins')
      assert.equal((await ask('/files/agent.img')).status, 503)
    } finally {
      await writeFile(path('agent.img'), 'agent')
    }
  })

  it('serves every file that a script names, whole', async () => {
    const { body } = await ask('/boot')
    const urls = [...body.toString().matchAll(/^(?:kernel|initrd) --name \S+ (\S+)/gm)]
    assert.equal(urls.length, 4)
    for (const [, url = ''] of urls) {
      assert.ok(url.startsWith(`http://127.0.0.1:${port}/`), url)
      const file = await ask(url.replace(/^http:\/\/[^/]+/, ''))
      assert.equal(file.status, 200, url)
      assert.equal(file.headers['content-length'], String(file.body.length))
      if (url.includes('modules.img')) assert.deepEqual(new Uint8Array(file.body), MODULES)
    }
    // The client has the file a moment before the server knows that it has.
    await eventually('the boot is stamped', () => sent.length > 0)
    assert.deepEqual(sent, [BOOT_ID], 'the last file stamps the boot, once')
  })

  it('stamps no boot for a download that is broken off, nor for HEAD', async () => {
    const url = `/files/kernel/${KERNEL_ID}/modules.img`
    const head = await ask(`${url}?boot=${BOOT_ID}`, { method: 'HEAD' })
    assert.equal(head.headers['content-length'], String(MODULES.length))
    assert.equal(head.body.length, 0)
    const socket = connect(port, '127.0.0.1')
    socket.write(`GET ${url}?boot=${BOOT_ID} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await once(socket, 'data')
    socket.destroy()
    await eventually('the server notices', async () => (await connectionCount()) === 0)
    assert.deepEqual(sent, [])
    assert.equal((await ask('/boot', { method: 'HEAD' })).status, 200)
    assert.deepEqual(asked, [], 'HEAD begins no boot')
  })

  const connectionCount = async () =>
    await new Promise<number>((resolve) => {
      server.getConnections((_, count) => resolve(count))
    })

  it('serves many at once', async () => {
    const url = `/files/kernel/${KERNEL_ID}/modules.img`
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(url)))
    for (const { body } of answers) assert.equal(body.length, MODULES.length)
  })

  it('serves nothing that is not in its table', async () => {
    const folder = `/files/kernel/${KERNEL_ID}`
    for (const url of [
      '/',
      '/files/',
      '/files/agent.img/',
      '/files/../secret',
      '/secret',
      `${folder}/kernel.json`,
      `${folder}/`,
      `${folder}/../../../secret`,
      `${folder}/..%2f..%2f..%2fsecret`,
      `${folder}/%2e%2e/%2e%2e/%2e%2e/secret`,
      `${folder}/vmlinuz%00`,
      `${folder}//vmlinuz`,
      `/files/kernel/${'cd'.repeat(32)}/vmlinuz`,
      `/files/kernel/${KERNEL_ID.toUpperCase()}/vmlinuz`,
      '/files/kernel/__proto__/vmlinuz',
      `${folder}/constructor`,
      'http://elsewhere/boot.ipxe',
      '//boot.ipxe',
      '*',
    ]) {
      const { status, body } = await ask(url)
      assert.equal(status, 404, url)
      assert.ok(!body.includes('secret'), url)
    }
  })

  it('refuses other methods and endless addresses', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { status, headers } = await ask('/boot', { method })
      assert.equal(status, 405)
      assert.equal(headers['allow'], 'GET, HEAD')
    }
    assert.equal((await ask(`/boot?serial=${'x'.repeat(3000)}`)).status, 414)
    assert.deepEqual(asked, [])
  })

  it('answers HTTP/1.0 without a host by the address of the socket', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.write('GET /boot HTTP/1.0\r\n\r\n')
    assert.match(await text(socket), / bootwire\.servers=127\.0\.0\.1:8443 /)
  })
})

describe('BootFiles', () => {
  it('keeps whole kernels over a restart and removes the rest', async () => {
    await using temporary = await createTemporaryFolder()
    const files = await BootFiles.open(temporary.path)
    const half = 'cd'.repeat(32)
    await files.add((folder) => writeKernel(folder, KERNEL_ID))
    await files.add((folder) => writeKernel(folder, half))
    const folder = join(temporary.path, 'boot/kernel')
    await rm(join(folder, half, 'vmlinuz'))
    await mkdir(join(folder, 'new-0123'))
    const reopened = await BootFiles.open(temporary.path)
    assert.deepEqual(await reopened.listKernels(), [KERNEL_ID])
    assert.deepEqual(await readdir(folder), [KERNEL_ID])
    assert.ok(reopened.hasDriver(KERNEL_ID, 'pci:8086:100e'))
    await reopened.removeKernel(KERNEL_ID)
    assert.equal(reopened.find(KERNEL_ID, 'vmlinuz'), undefined)
    assert.deepEqual(await readdir(folder), [])
  })

  it('leaves nothing when building a kernel fails', async () => {
    await using temporary = await createTemporaryFolder()
    const files = await BootFiles.open(temporary.path)
    const failing = files.add(async (folder) => {
      await writeFile(join(folder, 'vmlinuz'), 'half')
      throw new Error('no room')
    })
    await assert.rejects(failing, /no room/)
    assert.deepEqual(await readdir(join(temporary.path, 'boot/kernel')), [])
  })
})

async function writeKernel(folder: string, kernelId: string): Promise<string> {
  const description = { format: 1, release: '6.1', devices: ['pci:1af4:*', 'pci:8086:100e'] }
  await writeFile(join(folder, 'vmlinuz'), 'kernel')
  await writeFile(join(folder, 'modules.img'), MODULES)
  await writeFile(join(folder, 'extra.img'), 'extra')
  await writeFile(join(folder, KERNEL_DESCRIPTION), JSON.stringify(description))
  return kernelId
}
