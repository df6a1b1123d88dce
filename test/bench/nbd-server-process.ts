/**
 * Our NBD server for the bench, over the whole stack of block layers: the overlay, with chunks that
 * come from the image file instead of a session.
 *
 * usage: nbd-server-process.ts IMAGE SOCKET ram|file FOLDER
 *   ram   every byte is in the RAM tier: the first read of the image brings it there
 *   file  every byte is in the write cache, in FOLDER
 */
import { openSync, readFileSync, readSync } from 'node:fs'
import type { ChunkListener, ChunkTransport } from '#agent/block/chunk-transport.ts'
import { type HotOverlayData, openHotDevice } from '#agent/block/hot-overlay.ts'
import { openOverlay } from '#agent/block/open-overlay.ts'
import { NbdServer } from '#agent/node-nbd/index.ts'
import { type ChunkGrid, chunkLength, chunkOffset } from '#shared/chunk/chunk-math.ts'
import { invariant } from '#shared/invariant.ts'
import { GiB, KiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING, type ChunkRequest } from '#shared/wire/frame.ts'

const [imagePath, socketPath, where, folder] = process.argv.slice(2)
invariant(imagePath && socketPath && folder, 'IMAGE SOCKET ram|file FOLDER')

/** What the chunk store of the server makes. */
const CHUNK_BYTES = 64 * KiB

/** Answers at once, with the bytes of the file as they are. */
class FileTransport implements ChunkTransport {
  readonly #fd: number
  readonly #grid: ChunkGrid
  readonly #payload: Buffer
  #listener: ChunkListener | undefined

  constructor(fd: number, grid: ChunkGrid) {
    this.#fd = fd
    this.#grid = grid
    this.#payload = Buffer.alloc(grid.chunkBytes)
  }

  listen(listener: ChunkListener): void {
    this.#listener = listener
    listener.onOpen()
  }

  request(request: ChunkRequest): void {
    setImmediate(() => this.#answer(request))
  }

  #answer({ requestId, chunkIndex }: ChunkRequest): void {
    const rawBytes = chunkLength(this.#grid, chunkIndex)
    readSync(this.#fd, this.#payload, 0, rawBytes, chunkOffset(this.#grid, chunkIndex))
    const payload = this.#payload.subarray(0, rawBytes)
    this.#listener?.onChunk({ requestId, encoding: CHUNK_ENCODING.raw, rawBytes }, payload)
  }
}

const sizeBytes = readFileSync(imagePath).length
const overlay = await openOverlay({
  sizeBytes,
  chunkBytes: CHUNK_BYTES,
  versionId: 'cafe0123',
  ramTierBytes: where === 'ram' ? sizeBytes + 64 * MiB : 16 * MiB,
  writeCacheFolder: folder,
  writeCacheLimitBytes: 2 * GiB,
  transport: new FileTransport(openSync(imagePath, 'r'), { sizeBytes, chunkBytes: CHUNK_BYTES }),
  onNotice: () => {},
})
if (where === 'file') writeAll()

const server = await NbdServer.listen({
  socketPath,
  spareWorkers: 4,
  exports: [{ ...overlay.device, name: '', description: 'bench' }],
})
process.on('SIGTERM', () => {
  void server.close().then(() => overlay.close())
})

function writeAll(): void {
  invariant(imagePath, 'an image')
  const hot = openHotDevice(overlay.device.hot.data as HotOverlayData)
  const fd = openSync(imagePath, 'r')
  const piece = Buffer.alloc(MiB)
  for (let at = 0; at < sizeBytes; at += piece.length) {
    const length = readSync(fd, piece, 0, piece.length, at)
    hot.write(at, piece.subarray(0, length), false)
  }
  hot.close()
}
