import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { AdminAnswers } from '#server/admin/admin-answers.ts'
import type { CheckView, ClientView, HydrateRequest, VersionView } from '#server/admin/admin-api.ts'
import { AdminServer } from '#server/admin/admin-server.ts'
import { clientRoutes } from '#server/admin/client-routes.ts'
import { storeRoutes } from '#server/admin/store-routes.ts'
import { type Importer, vdiskRoutes } from '#server/admin/vdisk-routes.ts'
import { versionRoutes } from '#server/admin/version-routes.ts'
import { AdminClient, type Content } from '#server/cli/admin-client.ts'
import { createLog, silentLog } from '#server/log.ts'
import type { GarbageReport } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore, imageOf, type TestCore } from '#test/support/server-core.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 20_000 }

/** Stores an image made of the path, in two steps that tell how far they are. */
function importerOf(core: TestCore): Importer {
  return async (source, onProgress) => {
    onProgress({ stage: 'reading', doneBytes: 1, totalBytes: 2 })
    onProgress({ stage: 'reading', doneBytes: 2, totalBytes: 2 })
    const image = 'path' in source ? imageOf(source.path) : await wholeOf(source.upload)
    const committed = core.chunkStore.add(image)
    const root = { partition: 1, fsType: 'ext4', options: '' }
    return { committed, format: 'raw', root, osName: 'Test 1', warnings: ['made up'] }
  }
}

async function wholeOf(upload: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of upload) parts.push(part)
  return new Uint8Array(Buffer.concat(parts))
}

async function startAdmin(importImage?: Importer, log = silentLog()) {
  const folder = await createTemporaryFolder()
  const core = createTestCore()
  const services = { ...core, importImage: importImage ?? importerOf(core), log }
  const path = join(folder.path, 'admin.sock')
  const routes = [
    ...vdiskRoutes(services),
    ...versionRoutes(services),
    ...storeRoutes(services),
    ...clientRoutes(services),
  ]
  const audit = { append: async () => undefined }
  const findSubject = async () => undefined
  const answers = new AdminAnswers({ routes, audit, findSubject, log })
  const admin = await AdminServer.listen(path, answers)
  return {
    core,
    path,
    client: new AdminClient({ socketPath: path }),
    [Symbol.asyncDispose]: async () => {
      await admin.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}

const NO_ANSWERS = new AdminAnswers({
  routes: [],
  audit: { append: async () => undefined },
  findSubject: async () => undefined,
  log: silentLog(),
})

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
    const progress: string[] = []
    const result = await admin.client.importVDisk(image, ({ stage, doneBytes }) =>
      progress.push(`${stage} ${doneBytes}`),
    )
    assert.deepEqual(progress, ['reading 1', 'reading 2', 'foreseeing its boots 0'])
    assert.deepEqual([result.vdisk.name, result.warnings], ['one', ['made up']])
    assert.equal((await admin.core.catalog.list()).length, 1)
  })

  it('ends, leaving nothing, when whoever asked for it is gone', async () => {
    let running = false
    let aborted = false
    const lines: string[] = []
    await using admin = await startAdmin(
      (_request, _onProgress, signal) =>
        new Promise((_resolve, reject) => {
          running = true
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
    await eventually('the import runs', () => running)
    // A sweep leaves alone what is in no record as long as an import runs.
    const orphan = admin.core.chunkStore.add(imageOf('stored'))
    await admin.core.catalog.sweep()
    assert.deepEqual(await admin.core.chunkStore.listVersions(), [orphan.versionId])
    socket.destroy()
    await eventually('the import is aborted', () => aborted)
    await eventually('what it stored is swept', async () => {
      return (await admin.core.chunkStore.listVersions()).length === 0
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
    const client = new AdminClient({ socketPath: path })
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

  it('leaves nothing in the store when it fails', async () => {
    await using admin = await startAdmin()
    await admin.client.importVDisk(image, () => undefined)
    const bare = { path: '/bare', name: 'bare' }
    await assert.rejects(
      admin.client.importVDisk(bare, () => undefined),
      { code: 'NO_KERNEL' },
    )
    assert.equal((await admin.core.chunkStore.listVersions()).length, 1)
  })

  it('makes the next version under a name that is there, also at the same time', async () => {
    await using admin = await startAdmin()
    const paths = ['/a', '/b', '/c', '/d']
    const results = await Promise.all(
      paths.map((path) => admin.client.importVDisk({ ...image, path }, () => undefined)),
    )
    const numbers = results.map(({ version }) => version.number).sort((a, b) => a - b)
    assert.deepEqual(numbers, [1, 2, 3, 4])
    const versions = await admin.client.ask<VersionView[]>('GET', '/vdisks/one/versions')
    assert.deepEqual(
      versions.map(({ number, isInProduction }) => [number, isInProduction]),
      [
        [4, false],
        [3, false],
        [2, false],
        [1, true],
      ],
    )
    const again = await admin.client.importVDisk({ ...image, path: '/b' }, () => undefined)
    assert.equal(again.outcome, 'unchanged')
  })

  it('takes what is sent along, also gigabytes of it', async () => {
    let sentBytes = 0
    await using admin = await startAdmin(async (source, onProgress, signal) => {
      assert.ok('upload' in source)
      for await (const part of source.upload) sentBytes += part.length
      return await importerOf(createTestCore())({ path: '/x' }, onProgress, signal)
    })
    const piece = Buffer.alloc(1_000_000, 7)
    const body = Readable.from(Array.from({ length: 300 }, () => piece))
    await admin.client.uploadVDisk(body, { name: 'one', kernelOptional: true }, () => undefined)
    assert.equal(sentBytes, 300_000_000)
  })

  it('is told to whoever still sends, when it fails', async () => {
    await using admin = await startAdmin(async (source) => {
      assert.ok('upload' in source)
      for await (const _ of source.upload) break
      throw new BootwireError('STORE_FULL', 'Cannot write: the disk is full')
    })
    let isEnded = false
    const endless = Readable.from(
      (async function* () {
        try {
          for (;;) yield Buffer.alloc(65_536)
        } finally {
          isEnded = true
        }
      })(),
    )
    const uploading = admin.client.uploadVDisk(endless, { name: 'one' }, () => undefined)
    await assert.rejects(uploading, {
      code: 'STORE_FULL',
      message: 'Cannot write: the disk is full',
    })
    await eventually('nothing more is read', () => isEnded)
  })

  it('of an upload ends when whoever sends it is gone', async () => {
    let failure: unknown
    const canceling = new AbortController()
    await using admin = await startAdmin(async (source) => {
      assert.ok('upload' in source)
      try {
        for await (const _ of source.upload) canceling.abort(new Error('Ctrl-C'))
      } catch (error) {
        failure = error
        throw error
      }
      throw new Error('a part was taken for the whole')
    })
    const stalled = new Readable({ read: () => undefined })
    stalled.push(Buffer.alloc(100_000))
    const options = { name: 'one' }
    const uploading = admin.client.uploadVDisk(stalled, options, () => undefined, canceling.signal)
    await assert.rejects(uploading, /Ctrl-C/)
    await eventually('the server sees it', () => failure !== undefined)
    assert.match(String(failure), /aborted/)
  })
})

describe('the content of a version', TIMEOUT, () => {
  const contentOf = async ({ parts }: Content) => {
    const got: Buffer[] = []
    for await (const { bytes, lengthBytes } of parts) {
      got.push(bytes === undefined ? Buffer.alloc(lengthBytes) : Buffer.from(bytes))
    }
    return Buffer.concat(got)
  }

  it('comes as it was imported, of any version', async () => {
    await using admin = await startAdmin()
    for (const path of ['/a', '/b']) {
      await admin.client.importVDisk({ path, name: 'one', kernelOptional: true }, () => undefined)
    }
    for (const [query, expected, number] of [
      ['', imageOf('/a'), 1],
      ['?version=2', imageOf('/b'), 2],
    ] as const) {
      const content = await admin.client.content(`/vdisks/one/content${query}`)
      assert.equal(content.head.version.number, number)
      assert.ok((await contentOf(content)).equals(expected))
    }
    await assert.rejects(admin.client.content('/vdisks/one/content?version=3'), {
      code: 'NOT_FOUND',
    })
    await assert.rejects(admin.client.content('/vdisks/two/content'), { code: 'NOT_FOUND' })
  })

  it('ends with what is wrong when it cannot be read', async () => {
    await using admin = await startAdmin()
    await admin.core.addVDisk('one')
    admin.core.chunkStore.corruptBlock = 5
    const content = await admin.client.content('/vdisks/one/content')
    await assert.rejects(contentOf(content), { code: 'CHUNK_CORRUPT' })
    await eventually('nobody holds it any more', () => admin.core.chunkStore.openReaders === 0)
  })

  it('keeps its data until it is read, whatever is removed', async () => {
    await using admin = await startAdmin()
    await admin.core.addVDisk('one', imageOf('large', 4_000_000))
    const content = await admin.client.content('/vdisks/one/content')
    await admin.client.ask('DELETE', '/vdisks/one')
    assert.ok((await contentOf(content)).equals(imageOf('large', 4_000_000)))
  })

  it('is not read further when nobody wants it', async () => {
    await using admin = await startAdmin()
    await admin.core.addVDisk('one', imageOf('large', 8_000_000))
    const content = await admin.client.content('/vdisks/one/content')
    content.close()
    await eventually('nobody holds it any more', () => admin.core.chunkStore.openReaders === 0)
  })
})

describe('check and gc', TIMEOUT, () => {
  it('name the versions that are damaged as people do', async () => {
    await using admin = await startAdmin()
    const versionId = await admin.core.addVDisk('one')
    const report = await admin.core.chunkStore.check()
    admin.core.chunkStore.check = async () => ({
      ...report,
      damages: [{ text: 'pack 7 is gone', versionIds: [versionId, 'ff'] }] as never[],
    })
    const view = await admin.client.stream<CheckView>('/store/check', {}, () => undefined)
    assert.deepEqual(view.damages, [{ text: 'pack 7 is gone', versions: ['one@1', 'ff'] }])
    const wrong = { readDataShare: 2 }
    await assert.rejects(
      admin.client.stream('/store/check', wrong, () => undefined),
      { code: 'INVALID_ARGUMENT' },
    )
  })

  it('free what nobody holds', async () => {
    await using admin = await startAdmin()
    admin.core.chunkStore.add(imageOf('orphan'))
    const report = await admin.client.stream<GarbageReport>('/store/gc', {}, () => undefined)
    assert.equal(report.removedChunks, 0)
    assert.deepEqual(await admin.core.chunkStore.listVersions(), [])
  })
})

it('hydration keeps of a client what is not said', TIMEOUT, async () => {
  await using admin = await startAdmin()
  await admin.core.registry.identify({ macs: ['52:54:00:00:00:01'] }, '192.0.2.1')
  const hydrate = async (wish: HydrateRequest) =>
    (await admin.client.ask<ClientView>('POST', '/clients/client-1/hydrate', wish)).hydration
  assert.deepEqual(await hydrate({}), { mode: 'run', rateBytesPerSecond: 0 })
  assert.deepEqual(await hydrate({ rateBytesPerSecond: 5 }), { mode: 'run', rateBytesPerSecond: 5 })
  assert.deepEqual(await hydrate({ mode: 'pause' }), { mode: 'pause', rateBytesPerSecond: 5 })
  await assert.rejects(hydrate({ rateBytesPerSecond: -1 }), { code: 'INVALID_ARGUMENT' })
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
    await assert.rejects(AdminServer.listen(path, NO_ANSWERS), { code: 'STATE_UNREADABLE' })
    assert.equal((await stat(path)).size, 8)
    const nested = join(folder.path, 'folder.sock')
    await mkdir(nested)
    await assert.rejects(AdminServer.listen(nested, NO_ANSWERS), { code: 'STATE_UNREADABLE' })
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
