/**
 * Puts the client's block layers together: the write cache over the RAM tier over the server. What
 * comes out is one export of the NBD server.
 */
import type { Export } from '../node-nbd/block-device.ts'
import type { ChunkTransport } from './chunk-transport.ts'

export interface OverlayOptions {
  /** Bytes of the version; a size that is not a multiple of 512 loses its last few bytes. */
  readonly sizeBytes: number
  /** A power of two, 4 KiB to 128 KiB. */
  readonly chunkBytes: number
  /** The write cache belongs to this version and to no other. */
  readonly versionId: string
  /** Memory for chunks. */
  readonly ramTierBytes: number
  /** Folder of the write cache on a tmpfs; made when it is missing. Not used when `readOnly`. */
  readonly writeCacheFolder: string
  /** Most bytes that written data may take. */
  readonly writeCacheLimitBytes: number
  readonly transport: ChunkTransport
  /** Something a person should know; called on the main thread. */
  readonly onNotice: (notice: OverlayNotice) => void
  /** Whether the folder survives a loss of power, so that flush and FUA must reach it. Default false. */
  readonly writeCacheDurable?: boolean
  /** Every write fails with EPERM, and there is no write cache. Default false. */
  readonly readOnly?: boolean
  /** Whether sequential reads ask for the chunks that follow. Default true. */
  readonly readahead?: boolean
  /** Where workers import the hot device from, when it was bundled. Default: hot-overlay.ts. */
  readonly hotModuleUrl?: string
}

export type OverlayNotice =
  /** The write cache reached this part of its limit; sent again after it was below. */
  | {
      readonly kind: 'write-cache-filling'
      readonly percent: 75 | 90 | 100
      readonly usedBytes: number
      readonly limitBytes: number
    }
  /** A chunk did not decode, however often it was asked for: the read that needs it fails. */
  | { readonly kind: 'chunk-unreadable'; readonly chunkIndex: number; readonly error: unknown }

/** Counters since the overlay was opened. */
export interface OverlayStats {
  readonly ramTierBytes: number
  readonly writeCacheBytes: number
  readonly writeCacheLimitBytes: number
  /** Reads of the kernel that had to wait for the server, and their bytes. */
  readonly demandReads: number
  readonly demandReadBytes: number
  readonly chunksReceived: number
  /** Payload of chunks as it came over the wire. */
  readonly chunkBytesReceived: number
}

export interface Overlay {
  /** Everything of an NBD export but how it is called. */
  readonly device: Omit<Export, 'name' | 'description'>
  stats(): OverlayStats
  /** Call after the NBD server is closed. Reads that still wait are rejected. */
  close(): Promise<void>
}

/** @throws {BootwireError} WRITE_CACHE_UNUSABLE when the folder holds the cache of another version or is damaged */
export async function openOverlay(options: OverlayOptions): Promise<Overlay> {
  throw new Error(`Cannot open ${options.versionId}: the layers are not joined yet`)
}
