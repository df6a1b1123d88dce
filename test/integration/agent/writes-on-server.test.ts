/** What a client writes to its server, by the agent's own session and a real server: kept, and its own. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { HotOverlay, type HotOverlayData } from '#agent/block/hot-overlay.ts'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { signVersionRoot } from '#shared/manifest/version-root.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CuttableNetwork } from '#test/support/agent-network.ts'
import { createServerKey, signingKeyOf } from '#test/support/agent-scripted-server.ts'
import { createSession, type TestSession, until } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore } from '#test/support/server-core.ts'
import { startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const IMAGE_BYTES = 8 * MiB
const SIGNAL = new AbortController().signal

async function createServer(folder: string) {
  const key = await createServerKey()
  const { keyPem, signerKey } = signingKeyOf(key)
  const core = createTestCore({
    unknownClients: { kind: 'vdisk', vdisk: 'debian' },
    sign: (record) => signVersionRoot(record, keyPem, signerKey),
    writesFolder: join(folder, 'writes'),
  })
  await core.addVDisk('debian', pattern(0, IMAGE_BYTES))
  const stream = await startStream({ core, key })
  return {
    core,
    pin: key.pin,
    port: stream.port,
    [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
  }
}

interface Client extends AsyncDisposable {
  readonly session: TestSession
  readonly overlay: Overlay
  readonly hot: HotOverlay
}

async function boot(
  server: { readonly port: number; readonly pin: string },
  folder: string,
  bootId: string,
): Promise<Client> {
  const session = createSession(server, { bootId })
  session.start()
  const opened = await session.open({ vdisk: 'debian' }, SIGNAL)
  const overlay = await openOverlay({
    root: verifiedRoot(opened, server.pin),
    versionId: opened.versionId,
    ramTierBytes: 4 * MiB,
    writeCacheFolder: join(folder, bootId),
    writeCacheLimitBytes: 256 * KiB,
    transport: session,
    writeServer: {
      transport: session.writes,
      isKept: opened.writeCache.isKept,
      beginShare: 0.5,
      writeMap: await session.writes.writeMap(),
    },
    onNotice: (notice) => assert.notEqual(notice.kind, 'write-back-failed'),
  })
  const hot = new HotOverlay(overlay.device.hot.data as HotOverlayData)
  return {
    session,
    overlay,
    hot,
    async [Symbol.asyncDispose]() {
      hot.close()
      await overlay.close()
      await session[Symbol.asyncDispose]()
    },
  }
}

async function write({ hot, overlay }: Client, offset: number, bytes: Buffer): Promise<void> {
  if (!hot.write(offset, bytes, false)) await overlay.device.cold?.write(offset, bytes, false)
  hot.idle()
}

async function read({ overlay }: Client, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length)
  await overlay.device.cold?.read(offset, target)
  return target
}

const pattern = (seed: number, length: number) =>
  Buffer.from(Array.from({ length }, (_, at) => (at * 31 + seed * 7 + (at >> 9)) & 0xff))

describe('a client that writes to its server', { timeout: 60_000 }, () => {
  it('finds at the next boot what it has flushed, sixteen times what fits its memory', async () => {
    await using temporary = await createTemporaryFolder()
    await using server = await createServer(temporary.path)
    await server.core.catalog.setWriteCache('debian', { place: 'server', isKept: true })
    const expected = pattern(0, IMAGE_BYTES)
    {
      await using client = await boot(server, temporary.path, 'a0'.repeat(16))
      for (let at = 0; at < 4 * MiB; at += 64 * KiB) {
        const bytes = pattern(at / KiB + 1, 64 * KiB - 512)
        await write(client, at + 512, bytes)
        bytes.copy(expected, at + 512)
      }
      await client.overlay.device.cold?.writeZeroes(5 * MiB, MiB, true, false)
      expected.fill(0, 5 * MiB, 6 * MiB)
      assert.ok((await read(client, 0, IMAGE_BYTES)).equals(expected), 'before the end')
      await client.overlay.device.cold?.flush()
    }
    await using client = await boot(server, temporary.path, 'a1'.repeat(16))
    assert.ok((await read(client, 0, IMAGE_BYTES)).equals(expected), 'at the next boot')
    const [kept] = await server.core.registry.list()
    assert.equal(Object.keys(kept?.keptVersions ?? {})[0], 'debian')
  })

  it('begins anew at the next boot when it is not kept', async () => {
    await using temporary = await createTemporaryFolder()
    await using server = await createServer(temporary.path)
    {
      await using client = await boot(server, temporary.path, 'a0'.repeat(16))
      for (let at = 0; at < 2 * MiB; at += 64 * KiB) {
        await write(client, at, Buffer.alloc(64 * KiB, 'w'))
      }
      assert.ok((await read(client, 0, MiB)).equals(Buffer.alloc(MiB, 'w')))
    }
    const folders = async () =>
      (await readdir(join(temporary.path, 'writes'), { recursive: true })).filter((name) =>
        name.endsWith('/dropped'),
      )
    await eventually('what it dropped is gone when it is down', async () => {
      return (await folders()).length === 0
    })
    await using client = await boot(server, temporary.path, 'a1'.repeat(16))
    assert.ok((await read(client, 0, IMAGE_BYTES)).equals(pattern(0, IMAGE_BYTES)))
  })

  it('goes on after a lost connection, and not when it was started again elsewhere', async () => {
    await using temporary = await createTemporaryFolder()
    await using server = await createServer(temporary.path)
    await server.core.catalog.setWriteCache('debian', { place: 'server', isKept: true })
    await using network = await CuttableNetwork.create(() => server.port)
    const { port } = network
    await using client = await boot({ port, pin: server.pin }, temporary.path, 'a0'.repeat(16))
    await write(client, 0, Buffer.alloc(BLOCK_BYTES, 'a'))
    client.session.giveUp('a test')
    await until(client.session, () => !client.session.isOpen)
    await write(client, BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, 'b'))
    await client.overlay.device.cold?.flush()
    network.areAgentsMute = true
    await using other = await boot(server, temporary.path, 'a1'.repeat(16))
    assert.ok((await read(other, 0, BLOCK_BYTES)).equals(Buffer.alloc(BLOCK_BYTES, 'a')))
    assert.ok((await read(other, BLOCK_BYTES, BLOCK_BYTES)).equals(Buffer.alloc(BLOCK_BYTES, 'b')))
  })
})
