/** The server's parts over memory, for tests that need no network and no disk. */

import type { UnknownPolicy } from '#server/clients/unknown-policy.ts'
import { type Core, createCore } from '#server/core.ts'
import { silentLog } from '#server/log.ts'
import type { KernelRecord } from '#server/state/records.ts'
import { WRITE_QUOTA_BYTES_DEFAULT } from '#server/write-cache/write-store.ts'
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import { MemoryChunkStore } from './memory-chunk-store.ts'
import { MemoryStateStore } from './memory-state-store.ts'
import { MemoryTraceFiles } from './memory-trace-files.ts'

export interface TestCore extends Core {
  readonly store: MemoryStateStore
  readonly chunkStore: MemoryChunkStore
  /** Kernel ids whose boot files exist. */
  readonly kernels: Set<string>
  readonly clock: { nowMs: number }
  /** Registers a vDisk with this image. */
  addVDisk(name: string, image?: Uint8Array, kernel?: KernelRecord): Promise<string>
}

export const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5)

export function createTestCore(
  options: {
    readonly unknownClients?: UnknownPolicy
    readonly hostnamePattern?: string
    readonly store?: MemoryStateStore
    /** Signs versions; for agents that look at it. */
    readonly sign?: (record: Uint8Array) => SignedRoot
    /** For what clients write; without one they cannot. */
    readonly writesFolder?: string
    readonly writeQuotaBytes?: number
  } = {},
): TestCore {
  const store = options.store ?? new MemoryStateStore()
  const chunkStore = new MemoryChunkStore(options.sign)
  const kernels = new Set<string>()
  const clock = { nowMs: START_MS }
  const core = createCore({
    store,
    chunkStore,
    traceFiles: new MemoryTraceFiles(),
    bootFiles: {
      listKernels: async () => [...kernels],
      removeKernel: async (id) => void kernels.delete(id),
    },
    writesFolder: options.writesFolder ?? '/dev/null/writes',
    writeQuotaBytes: options.writeQuotaBytes ?? WRITE_QUOTA_BYTES_DEFAULT,
    unknownClients: options.unknownClients ?? { kind: 'approve' },
    hostnamePattern: options.hostnamePattern ?? 'client-{n}',
    now: () => clock.nowMs,
    log: silentLog(),
  })
  const addVDisk = async (name: string, image = imageOf(name), kernel?: KernelRecord) => {
    const committed = chunkStore.add(image)
    await core.catalog.register({
      name,
      title: `Title of ${name}`,
      committed,
      root: { partition: 1, fsType: 'ext4', options: '' },
      osName: 'Test 1',
      access: 'anyone',
      ...(kernel !== undefined && { kernel }),
    })
    return committed.versionId
  }
  return { ...core, store, chunkStore, kernels, clock, addVDisk }
}

/** An image whose chunks all differ, and whose chunk 1 is zero. */
export function imageOf(seed: string, sizeBytes = 10 * 4096 + 100): Uint8Array {
  const image = new Uint8Array(sizeBytes)
  const words = new TextEncoder().encode(seed)
  for (let offset = 0; offset < sizeBytes; offset += 1) {
    const chunk = Math.floor(offset / 4096)
    image[offset] = chunk === 1 ? 0 : ((words[offset % words.length] ?? 0) + chunk) & 0xff
  }
  return image
}
