/** A client with a whole version on its disk, over a real server, a real session and a real file. */
import assert from 'node:assert/strict'
import { open, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { LateDiskCache } from '#agent/disk-cache/late-disk-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { DiskCopy } from '#agent/fetch/disk-copy.ts'
import { FileDiskDevice } from '#agent/local-disk/disk-device.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import type { AgentSession } from '#agent/session/agent-session.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import { invariant } from '#shared/invariant.ts'
import { type SignedRoot, signVersionRoot } from '#shared/manifest/version-root.ts'
import { MiB } from '#shared/units.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { createServerKey, signingKeyOf } from '#test/support/agent-scripted-server.ts'
import { createSession, until, untilDown } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore, type TestCore } from '#test/support/server-core.ts'
import { startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { fillWithText } from '../../../unit/agent/fetch/fetch-fixture.ts'

const TIMEOUT = { timeout: 60_000 }
const SIGNAL = new AbortController().signal
const RUN = { mode: 'run', rateBytesPerSecond: 0 } as const

/** More than the RAM tier has, so that reads go to the disk; a span of zeros, and an odd end. */
const IMAGE = Buffer.alloc(40 * MiB + 512)
fillWithText(IMAGE, 0, 14 * MiB)
fillWithText(IMAGE, 33 * MiB, 7 * MiB + 512)

describe('a client with the whole version on its disk', TIMEOUT, () => {
  let key: ServerKey
  before(async () => {
    key = await createServerKey()
  })

  async function createCore(): Promise<TestCore> {
    const sign = (record: Uint8Array): SignedRoot => {
      const { keyPem, signerKey } = signingKeyOf(key)
      return signVersionRoot(record, keyPem, signerKey)
    }
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' }, sign })
    await core.addVDisk('debian', IMAGE)
    return core
  }

  async function openCache(path: string, session: AgentSession, problems: string[] = []) {
    const cache = new LateDiskCache()
    await cache.join(
      await openDiskCache({
        device: await FileDiskDevice.open(path),
        onProblem: (problem) => problems.push(problem),
        hasServer: () => session.isOpen,
        readDeadlineMs: 200,
      }),
    )
    return cache
  }

  async function serve(
    opened: Opened,
    session: AgentSession,
    diskCache: LateDiskCache,
    folder: string,
  ) {
    const copy = new DiskCopy({
      diskCache,
      versionBytes: opened.storedBytes,
      onComplete: () => undefined,
      times: { idleMs: 1, pollMs: 1, retryMs: 20 },
    })
    const overlay = await openOverlay({
      root: verifiedRoot(opened, key.pin),
      versionId: opened.versionId,
      ramTierBytes: RAM_TIER_BYTES_MIN,
      writeCacheFolder: join(folder, 'write-cache'),
      writeCacheLimitBytes: 1_000_000,
      transport: session,
      diskCache,
      onNotice: ({ kind }) => assert.fail(kind),
    })
    return { copy, overlay }
  }

  async function createCacheFile(folder: string): Promise<string> {
    const path = join(folder, 'cache')
    const file = await open(path, 'w')
    await file.truncate(80 * MiB)
    await file.close()
    const device = await FileDiskDevice.open(path)
    await formatCache(device)
    await device.close()
    return path
  }

  it('reads on byte for byte when the server is killed, and takes it back', async () => {
    await using temporary = await createTemporaryFolder()
    const core = await createCore()
    let stream = await startStream({ core, key })
    const { port } = stream
    await using session = createSession({ port, pin: key.pin })
    session.start()
    const opened = await session.open({ vdisk: 'debian' }, SIGNAL)
    const diskCache = await openCache(await createCacheFile(temporary.path), session)
    const { copy, overlay } = await serve(opened, session, diskCache, temporary.path)
    copy.begin(overlay.background, RUN)
    await eventually('all is here', () => copy.isComplete)
    const { diskCache: disk, hydration } = copy.status()
    assert.deepEqual(hydration, {
      mode: 'complete',
      localBytes: opened.storedBytes,
      versionBytes: opened.storedBytes,
    })
    assert.ok(disk.usedBytes > opened.storedBytes)
    await stream[Symbol.asyncDispose]()
    await untilDown(session)
    const received = session.wireBytesReceived
    await readWhole(overlay)
    await readWhole(overlay)
    assert.equal(session.wireBytesReceived, received)
    assert.equal(copy.isComplete, true)
    stream = await startStream({ core, key, port })
    await until(session, () => session.isOpen)
    await readWhole(overlay)
    await overlay.close()
    await copy.close()
    await stream[Symbol.asyncDispose]()
  })

  it('is served by the next agent without a server, nodes and all', async () => {
    await using temporary = await createTemporaryFolder()
    const path = await createCacheFile(temporary.path)
    const stream = await startStream({ core: await createCore(), key })
    const { port } = stream
    let opened: Opened
    {
      await using session = createSession({ port, pin: key.pin })
      session.start()
      opened = await session.open({ vdisk: 'debian' }, SIGNAL)
      const diskCache = await openCache(path, session)
      const { copy, overlay } = await serve(opened, session, diskCache, temporary.path)
      copy.begin(overlay.background, RUN)
      await eventually('all is here', () => copy.isComplete)
      await overlay.close()
      await copy.close()
    }
    await stream[Symbol.asyncDispose]()
    // As an agent that died and was started again while the server is away.
    await using session = createSession({ port, pin: key.pin })
    session.resume(opened)
    session.start()
    const diskCache = await openCache(path, session)
    const { copy, overlay } = await serve(opened, session, diskCache, join(temporary.path, 'next'))
    await readWhole(overlay)
    copy.begin(overlay.background, RUN)
    await eventually('it knows that all is here', () => copy.isComplete)
    assert.equal(session.wireBytesReceived, 0)
    await overlay.close()
    await copy.close()
  })

  it('goes on over the network when its disk ends in the middle', async () => {
    await using temporary = await createTemporaryFolder()
    const path = await createCacheFile(temporary.path)
    await using stream = await startStream({ core: await createCore(), key })
    await using session = createSession({ port: stream.port, pin: key.pin })
    session.start()
    const opened = await session.open({ vdisk: 'debian' }, SIGNAL)
    const problems: string[] = []
    const diskCache = await openCache(path, session, problems)
    const { copy, overlay } = await serve(opened, session, diskCache, temporary.path)
    copy.begin(overlay.background, RUN)
    await eventually('all is here', () => copy.isComplete)
    // Nothing of it is in memory any more after this.
    await diskCache.close()
    const again = await openCache(path, session, problems)
    const next = await serve(opened, session, again, join(temporary.path, 'next'))
    await truncate(path, 2 * MiB)
    await readWhole(next.overlay)
    assert.equal(next.copy.status().diskCache.state, 'failed')
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /cannot be read and is not used any more/)
    await next.overlay.close()
    await overlay.close()
    await copy.close()
    await next.copy.close()
  })
})

/** Reads the whole vDisk as a kernel would, and compares it. */
async function readWhole(overlay: Overlay): Promise<void> {
  const { cold, sizeBytes } = overlay.device
  invariant(cold !== undefined, 'the overlay has a cold side')
  const stepBytes = 256 * 1024
  for (let done = 0; done < sizeBytes; done += stepBytes) {
    const target = Buffer.alloc(Math.min(stepBytes, sizeBytes - done))
    await cold.read(done, target)
    assert.ok(target.equals(IMAGE.subarray(done, done + target.length)), `bytes from ${done}`)
  }
}
