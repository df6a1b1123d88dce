import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { AdminServer } from '#server/admin/admin-server.ts'
import { clientRoutes } from '#server/admin/client-routes.ts'
import { type Importer, vdiskRoutes } from '#server/admin/vdisk-routes.ts'
import { AdminClient } from '#server/cli/admin-client.ts'
import { createLog, silentLog } from '#server/log.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore, imageOf, type TestCore } from '#test/support/server-core.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 20_000 }

/** Stores an image made of the path, in two steps that tell how far they are. */
function importerOf(core: TestCore): Importer {
  return async ({ path }, onProgress) => {
    onProgress({ stage: 'reading', doneBytes: 1, totalBytes: 2 })
    onProgress({ stage: 'reading', doneBytes: 2, totalBytes: 2 })
    const committed = core.chunkStore.add(imageOf(path))
    const root = { partition: 1, fsType: 'ext4', options: '' }
    return { committed, root, osName: 'Test 1', warnings: ['made up'] }
  }
}

async function startAdmin(importImage?: Importer, log = silentLog()) {
  const folder = await createTemporaryFolder()
  const core = createTestCore()
  const services = { ...core, importImage: importImage ?? importerOf(core), log }
  const path = join(folder.path, 'admin.sock')
  const routes = [...vdiskRoutes(services), ...clientRoutes(services)]
  const admin = await AdminServer.listen(path, routes, log)
  return {
    core,
    path,
    client: new AdminClient(path),
    [Symbol.asyncDispose]: async () => {
      await admin.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}

/** Sends a body as it is and returns status and answer. */
async function post(socketPath: string, path: string, body: string) {
  return await new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    const sending = request({ socketPath, method: 'POST', path, agent: false }, (response) => {
      let text = ''
      response.on('data', (part) => (text += String(part)))
      response.on('end', () => resolve({ status: response.statusCode, text }))
    })
    sending.on('error', reject)
    sending.end(body)
  })
}

describe('an import', TIMEOUT, () => {
  const image = { path: '/image', name: 'one', kernelOptional: true }

  it('tells how far it is, then the vDisk and what was odd', async () => {
    await using admin = await startAdmin()
    const progress: number[] = []
    const result = await admin.client.importVDisk(image, ({ doneBytes }) =>
      progress.push(doneBytes),
    )
    assert.deepEqual([progress, result.vdisk.name, result.warnings], [[1, 2], 'one', ['made up']])
    assert.equal((await admin.core.catalog.list()).length, 1)
  })

  it('ends, leaving nothing, when whoever asked for it is gone', async () => {
    let aborted = false
    const lines: string[] = []
    await using admin = await startAdmin(
      (_request, _onProgress, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted = true
            reject(new Error('aborted'))
          })
        }),
      createLog({ json: false, level: 'error' }, (line) => lines.push(line)),
    )
    const body = JSON.stringify(image)
    const socket = connect(admin.path)
    socket.write(
      `POST /vdisks HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    await eventually('the import runs', async () => {
      const release = await admin.core.catalog.reserve('one').catch(() => undefined)
      release?.()
      return release === undefined
    })
    socket.destroy()
    await eventually('the import is aborted', () => aborted)
    await eventually('the name is free', async () => {
      const release = await admin.core.catalog.reserve('one').catch(() => undefined)
      release?.()
      return release !== undefined
    })
    assert.deepEqual(lines, [], 'nothing failed')
  })

  it('is told as what it is when the server stops, not as a bug', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'admin.sock')
    await using dying = createServer((_request, response) => {
      const line = { progress: { stage: 'storing', doneBytes: 1, totalBytes: 2 } }
      response.write(`${JSON.stringify(line)}\n`, () => response.destroy())
    })
    dying.listen(path)
    await once(dying, 'listening')
    const stages: string[] = []
    const client = new AdminClient(path)
    await assert.rejects(
      client.importVDisk(image, ({ stage }) => stages.push(stage)),
      { code: 'SERVER_NOT_RUNNING', message: /the server stopped/ },
    )
    assert.deepEqual(stages, ['storing'])
    await assert.rejects(client.ask('GET', '/vdisks'), {
      code: 'SERVER_NOT_RUNNING',
      message: /the server stopped/,
    })
  })

  it('leaves nothing in the store when its name was taken, or it failed', async () => {
    await using admin = await startAdmin()
    await admin.client.importVDisk(image, () => undefined)
    const other = { ...image, path: '/other' }
    await assert.rejects(
      admin.client.importVDisk(other, () => undefined),
      { code: 'ALREADY_EXISTS' },
    )
    const bare = { path: '/bare', name: 'bare' }
    await assert.rejects(
      admin.client.importVDisk(bare, () => undefined),
      { code: 'NO_KERNEL' },
    )
    assert.equal(admin.core.chunkStore.versions.size, 1)
  })

  it('is refused under a name that is being imported', async () => {
    let finish: () => void = () => undefined
    const core = createTestCore()
    await using admin = await startAdmin(async (request, onProgress, signal) => {
      await new Promise<void>((resolve) => {
        finish = resolve
        onProgress({ stage: 'held', doneBytes: 0, totalBytes: 1 })
      })
      return await importerOf(core)(request, onProgress, signal)
    })
    await new Promise<void>((resolve, reject) => {
      admin.client.importVDisk(image, () => resolve()).catch(reject)
    })
    await assert.rejects(
      admin.client.importVDisk(image, () => undefined),
      { code: 'ALREADY_EXISTS' },
    )
    finish()
  })
})

describe('the administration socket', TIMEOUT, () => {
  it('refuses what is too long, no JSON, or not as described, in words', async () => {
    await using admin = await startAdmin()
    const cases: [string, string, RegExp][] = [
      ['/vdisks', '{"path":"relative","name":"x"}', /path: /],
      ['/vdisks', '{"path":"/x","name":7}', /name: /],
      ['/vdisks', '[', /not JSON/],
      ['/vdisks', JSON.stringify({ path: `/${'x'.repeat(70_000)}` }), /longer than 65536 bytes/],
      ['/clients/x/assign', '{"vdisks":[]}', /BW-E104/],
    ]
    for (const [path, body, message] of cases) {
      const { text } = await post(admin.path, path, body)
      assert.match(text, message, body.slice(0, 60))
      assert.doesNotMatch(text, /\\n\s+at /)
    }
    assert.equal((await post(admin.path, '/nonsense', '')).status, 404)
    await admin.core.registry.identify({ macs: ['52:54:00:00:00:01'] }, '192.0.2.1')
    const empty = await post(admin.path, '/clients/client-1/assign', '{"vdisks":[]}')
    assert.equal(empty.status, 400)
  })

  it('tells of a failure of the server without its stack', async () => {
    await using admin = await startAdmin(async () => {
      throw new TypeError('a bug')
    })
    const importing = admin.client.importVDisk({ path: '/x', name: 'x' }, () => undefined)
    await assert.rejects(importing, { code: 'INTERNAL', message: 'The server failed: a bug' })
  })

  it('is not put in the place of something else', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'admin.sock')
    await writeFile(path, 'precious')
    await assert.rejects(AdminServer.listen(path, [], silentLog()), { code: 'STATE_UNREADABLE' })
    assert.equal((await stat(path)).size, 8)
    const nested = join(folder.path, 'folder.sock')
    await mkdir(nested)
    await assert.rejects(AdminServer.listen(nested, [], silentLog()), { code: 'STATE_UNREADABLE' })
  })
})

it(
  'assigning keeps the order of the menu and refuses vDisks that are not there',
  TIMEOUT,
  async () => {
    await using admin = await startAdmin()
    await admin.core.addVDisk('a')
    await admin.core.addVDisk('b')
    await admin.core.registry.identify({ macs: ['52:54:00:00:00:01'] }, '192.0.2.1')
    const assign = (vdisks: string[]) =>
      admin.client.ask('POST', '/clients/client-1/assign', { vdisks })
    await assign(['b'])
    await assign(['a', 'b'])
    assert.deepEqual((await admin.core.registry.list())[0]?.assignments, ['b', 'a'])
    await assert.rejects(assign(['ghost']), { code: 'NOT_FOUND', message: /ghost/ })
  },
)
