/**
 * Hydration beside everything else a client does: the boot list pushed, reads on demand, readahead, a
 * RAM tier that is small, the end of the boot in the middle; over a real server, a real session, a
 * store and a disk cache in files. What one run does follows from its seed, but for the timing.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HotOverlayData, openHotDevice } from '#agent/block/hot-overlay.ts'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { LateDiskCache } from '#agent/disk-cache/late-disk-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { DiskCopy } from '#agent/fetch/disk-copy.ts'
import { PathWindow } from '#agent/fetch/path-window.ts'
import { FileDiskDevice } from '#agent/local-disk/disk-device.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { createCore } from '#server/core.ts'
import { silentLog } from '#server/log.ts'
import { ContentStore } from '#server/store/content-store.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import { FolderTraceFiles } from '#server/traces/trace-files.ts'
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { signVersionRoot } from '#shared/manifest/version-root.ts'
import { KiB, MiB } from '#shared/units.ts'
import { createServerKey, signingKeyOf } from '#test/support/agent-scripted-server.ts'
import { createSession } from '#test/support/agent-session.ts'
import { openDelayedPort } from '#test/support/delayed-port.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'
import { seededRandom } from '#test/support/seeded-random.ts'
import { createTestCore, type TestCore } from '#test/support/server-core.ts'
import { type StreamFixture, startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const IMAGE_BYTES: number = 48 * MiB + 512
/** Half a minute in the field; here within each run, many times. */
const LEAST_VALID_MS = 200
/** Each way. */
const DELAYS_MS = [0, 1, 5]

interface Range {
  readonly offset: number
  readonly length: number
}

type Random = () => number

interface Client {
  readonly overlay: Overlay
  readonly copy: DiskCopy
  readonly read: (range: Range) => Promise<void>
}

describe('hydration beside a boot', { timeout: 120_000 }, () => {
  const image = createImage()
  let key: ServerKey
  let folder: TemporaryFolder
  let store: ContentStore
  let core: TestCore
  let stream: StreamFixture
  let versionId: string

  before(async () => {
    key = await createServerKey()
    folder = await createTemporaryFolder()
    const { keyPem, signerKey } = signingKeyOf(key)
    store = await ContentStore.open(join(folder.path, 'store'), {
      sign: (record) => signVersionRoot(record, keyPem, signerKey),
    })
    core = {
      ...createTestCore(),
      ...createCore({
        store: new MemoryStateStore(),
        chunkStore: store,
        traceFiles: await FolderTraceFiles.open(join(folder.path, 'traces'), silentLog()),
        bootFiles: { listKernels: async () => [], removeKernel: async () => undefined },
        writesFolder: '/dev/null/writes',
        writeQuotaBytes: 0,
        unknownClients: { kind: 'vdisk', vdisk: 'debian' },
        hostnamePattern: 'client-{n}',
        now: Date.now,
        log: silentLog(),
      }),
    }
    const writer = await store.createVersion()
    for (let at = 0; at < image.length; at += MiB) await writer.append(image.subarray(at, at + MiB))
    const committed = await writer.commit()
    const root = { partition: 1, fsType: 'ext4', options: '' }
    await core.catalog.register({
      name: 'debian',
      title: '',
      committed,
      root,
      osName: '',
      access: 'anyone',
    })
    ;({ versionId } = committed)
    stream = await startStream({ core, key })
  })
  after(async () => {
    await stream[Symbol.asyncDispose]()
    await core.bootSets.close()
    await store.close()
    await folder[Symbol.asyncDispose]()
  })

  /** Opens the vDisk as a machine that boots, and lets `live` make use of it. */
  async function boot(
    delayMs: number,
    cachePath: string | undefined,
    live: (client: Client) => Promise<void>,
  ): Promise<void> {
    await using path = await openDelayedPort(stream.port, delayMs)
    await using session = createSession(
      { port: path.port, pin: key.pin },
      { bootId: randomBytes(16).toString('hex') },
    )
    const diskCache = new LateDiskCache()
    if (cachePath !== undefined) await diskCache.join(await openCache(cachePath))
    session.start()
    const opened = await session.open({ vdisk: 'debian' }, new AbortController().signal)
    const copy = new DiskCopy({
      diskCache,
      versionBytes: opened.storedBytes,
      onComplete: () => undefined,
      times: { idleMs: 20, pollMs: 1, retryMs: 100_000 },
    })
    const overlay = await openOverlay({
      root: verifiedRoot(opened, key.pin),
      versionId,
      ramTierBytes: 2 * RAM_TIER_BYTES_MIN,
      writeCacheFolder: join(folder.path, session.connection.sinceMs.toString()),
      writeCacheLimitBytes: MiB,
      transport: session,
      diskCache,
      isBoot: true,
      pathWindow: new PathWindow(LEAST_VALID_MS),
      onNotice: ({ kind }) => assert.fail(kind),
    })
    copy.begin(overlay.background, opened.hydration)
    const read = readerOf(overlay, image)
    await live({ overlay, copy, read })
    await overlay.close()
    await copy.close()
  }

  async function createCacheFile(name: string): Promise<string> {
    const path = join(folder.path, name)
    const file = await open(path, 'w')
    await file.truncate(256 * MiB)
    await file.close()
    const device = await FileDiskDevice.open(path)
    await formatCache(device)
    await device.close()
    return path
  }

  async function openCache(path: string) {
    return await openDiskCache({
      device: await FileDiskDevice.open(path),
      onProblem: (problem) => assert.fail(problem),
      hasServer: () => true,
    })
  }

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it(`ends with all of it on the disk and nothing on its way, seed ${seed}`, async () => {
      const random = seededRandom(seed)
      const delayMs = DELAYS_MS[seed % DELAYS_MS.length] ?? 0
      const reads = readsOfFiles(random, 60)
      await core.traces.removeVersion(versionId)
      await boot(0, undefined, async ({ overlay, read }) => {
        await readAll(reads, read, () => 0)
        overlay.endBoot(true)
        await eventually('the server knows', async () => {
          return (await core.traces.list(versionId)) !== undefined
        })
      })
      const cachePath = await createCacheFile(`cache-${seed}`)
      await boot(delayMs, cachePath, async ({ overlay, copy, read }) => {
        // Some of it is not read this time, and some of it is other than before.
        const again = reads.flatMap((range) => {
          if (random() < 0.1) return []
          return random() < 0.05 ? [...readsOfFiles(random, 1), range] : [range]
        })
        await readAll(again, read, () => (random() < 0.2 ? 5 * random() : 0))
        copy.hydrate({ mode: 'run', rateBytesPerSecond: 0 })
        const end = setTimeout(() => overlay.endBoot(true), 1000 * random())
        let reading = Promise.resolve()
        await eventually(
          'all of it is on the disk',
          () => {
            if (random() < 0.05) {
              const [range] = readsOfFiles(random, 1)
              if (range !== undefined) reading = reading.then(() => read(range))
            }
            return copy.isComplete
          },
          60_000,
        )
        await reading
        clearTimeout(end)
        overlay.endBoot(true)
        const nothing = { objects: 0, leaves: 0, answers: 0, bytesOnTheWay: 0 }
        await eventually('nothing is on its way', () => isSame(overlay.unfinished(), nothing))
        assert.ok(overlay.background.idleMs() > 0)
        assert.equal(overlay.stats().objectsCorrupt, 0)
      })
    })
  }
})

function isSame(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** Runs of data that pack to next to nothing, to a third, and not at all, and zeros between. */
function createImage(): Buffer {
  const random = seededRandom(7)
  const image = Buffer.alloc(IMAGE_BYTES)
  for (let at = 0; at < image.length; ) {
    const end = Math.min(image.length, at + BLOCK_BYTES * (1 + Math.floor(200 * random())))
    const kind = random()
    const share = kind < 0.15 ? undefined : kind < 0.3 ? 0.05 : kind < 0.8 ? 0.3 : 1
    for (; at < end; at += BLOCK_BYTES) {
      if (share === undefined) continue
      const block = image.subarray(at, Math.min(end, at + BLOCK_BYTES))
      block.fill('some text of no meaning. ')
      randomBytes(Math.floor(block.length * share)).copy(block)
    }
    at = end
  }
  return image
}

/** As programs read files: from some place on, piece by piece, now and then with a gap. */
function readsOfFiles(random: Random, files: number): Range[] {
  const reads: Range[] = []
  for (let file = 0; file < files; file += 1) {
    let offset = BLOCK_BYTES * Math.floor((random() * IMAGE_BYTES) / BLOCK_BYTES)
    const pieces = 1 + Math.floor(30 * random() ** 3)
    for (let piece = 0; piece < pieces; piece += 1) {
      const length = Math.min(BLOCK_BYTES * (1 + Math.floor(32 * random())), IMAGE_BYTES - offset)
      if (length <= 0) break
      reads.push({ offset, length })
      offset += random() < 0.8 ? length : length + 64 * KiB
    }
  }
  return reads
}

async function readAll(
  reads: readonly Range[],
  read: (range: Range) => Promise<void>,
  thinkMs: () => number,
): Promise<void> {
  const left = reads.values()
  const oneAfterTheOther = async () => {
    for (const range of left) {
      await read(range)
      const ms = thinkMs()
      if (ms > 0) await sleep(ms)
    }
  }
  await Promise.all([oneAfterTheOther(), oneAfterTheOther(), oneAfterTheOther()])
}

/** Reads as a worker does: hot, else cold; and compares. */
function readerOf({ device }: Overlay, image: Buffer): (range: Range) => Promise<void> {
  const hot = openHotDevice(device.hot.data as HotOverlayData)
  const { cold } = device
  invariant(cold !== undefined, 'an overlay has a cold device')
  return async ({ offset, length }) => {
    const parts: Uint8Array[] = []
    const isHot = hot.read(offset, length, {
      append: (bytes) => parts.push(Uint8Array.from(bytes)),
      appendPart: (memory, at, count) =>
        parts.push(Uint8Array.from(memory.subarray(at, at + count))),
      appendZeros: (count) => parts.push(new Uint8Array(count)),
      appendFile: () => assert.fail('nothing was written'),
    })
    hot.idle?.()
    const found = isHot ? Buffer.concat(parts) : Buffer.alloc(length)
    if (!isHot) await cold.read(offset, found)
    assert.ok(found.equals(image.subarray(offset, offset + length)), `${length} bytes at ${offset}`)
  }
}
