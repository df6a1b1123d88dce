/** An overlay over a fake server, with as many workers' faces as a test wants, all in this thread. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { HotOverlay, type HotOverlayData } from '#agent/block/hot-overlay.ts'
import {
  type Overlay,
  type OverlayNotice,
  type OverlayOptions,
  openOverlay,
} from '#agent/block/open-overlay.ts'
import type { ColdDevice } from '#agent/node-nbd/block-device.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import type { CutParameters } from '#shared/chunk/chunk-cutting.ts'
import { KiB, MiB } from '#shared/units.ts'
import { FakeObjectTransport } from '#test/support/fake-object-transport.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

export const CHUNK_BYTES: number = 64 * KiB

/** Chunks of 64 KiB, all of them, so that tests can reckon. */
export const EVEN_CUT: CutParameters = {
  minBlocks: 16,
  rareUntilBlocks: 16,
  rareOneIn: 1,
  oneIn: 1,
  maxBlocks: 16,
  zeroRunBlocks: 4,
}

export interface OverlayFixture extends AsyncDisposable {
  readonly image: Buffer
  readonly version: MemoryVersion
  readonly transport: FakeObjectTransport
  readonly overlay: Overlay
  readonly cold: ColdDevice
  readonly notices: OverlayNotice[]
  /** Another worker's face. */
  openHot(): HotOverlay
}

export async function createOverlay(
  options: Partial<OverlayOptions> = {},
  image: Buffer = numberedImage(16 * CHUNK_BYTES),
): Promise<OverlayFixture> {
  const temporary = await createTemporaryFolder()
  const version = new MemoryVersion(image, { cut: EVEN_CUT })
  const transport = new FakeObjectTransport(version)
  const notices: OverlayNotice[] = []
  const overlay = await openOverlay({
    root: version.root,
    versionId: version.versionId,
    ramTierBytes: RAM_TIER_BYTES_MIN,
    writeCacheFolder: join(temporary.path, 'write-cache'),
    writeCacheLimitBytes: 64 * MiB,
    transport,
    readahead: false,
    onNotice: (notice) => notices.push(notice),
    ...options,
  })
  const hots: HotOverlay[] = []
  return {
    image,
    version,
    transport,
    overlay,
    notices,
    cold: overlay.device.cold ?? assert.fail('no cold device'),
    openHot() {
      const hot = new HotOverlay(overlay.device.hot.data as HotOverlayData)
      hots.push(hot)
      return hot
    },
    async [Symbol.asyncDispose]() {
      for (const hot of hots) hot.close()
      await overlay.close()
      await temporary[Symbol.asyncDispose]()
    },
  }
}

/** Every sector begins with its number, so that none is mistaken for another. */
export function numberedImage(sizeBytes: number): Buffer {
  const image = Buffer.alloc(sizeBytes, 'a vDisk ')
  for (let at = 0; at + 4 <= sizeBytes; at += 512) image.writeUInt32BE(at / 512 + 1, at)
  return image
}
