/**
 * Our NBD server for the bench, over the whole stack of block layers: the overlay, with chunks that
 * come from the image file instead of a session.
 *
 * usage: nbd-server-process.ts IMAGE SOCKET ram|file FOLDER
 *   ram   every byte is in the RAM tier: the first read of the image brings it there
 *   file  every byte is in the write cache, in FOLDER
 */
import { openSync, readFileSync, readSync, statSync } from 'node:fs'
import { type HotOverlayData, openHotDevice } from '#agent/block/hot-overlay.ts'
import { openOverlay } from '#agent/block/open-overlay.ts'
import type { ObjectListener, ObjectTransport } from '#agent/fetch/object-transport.ts'
import { NbdServer } from '#agent/node-nbd/index.ts'
import { invariant } from '#shared/invariant.ts'
import { GiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, NO_PAYLOAD, type ObjectName } from '#shared/wire/frame.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'

const [imagePath, socketPath, where, folder] = process.argv.slice(2)
invariant(imagePath && socketPath && folder, 'IMAGE SOCKET ram|file FOLDER')

/** Answers at once, with the bytes of the image as they are. */
class ImageTransport implements ObjectTransport {
  readonly #version: MemoryVersion
  #listener: ObjectListener | undefined

  constructor(version: MemoryVersion) {
    this.#version = version
  }

  listen(listener: ObjectListener): void {
    this.#listener = listener
    listener.onOpen()
  }

  request({ objects }: { readonly objects: readonly ObjectName[] }): void {
    setImmediate(() => {
      for (const name of objects) this.#answer(name)
    })
  }

  push(): void {
    // There is no boot list.
  }

  sendTrace(): void {
    // Nobody boots.
  }

  #answer({ level, position }: ObjectName): void {
    const chunk = level === CHUNK_LEVEL ? this.#version.chunkAt(position) : undefined
    const payload = chunk ? this.#version.rawChunk(chunk) : this.#version.node(level, position)
    const bytes = payload?.length ?? 0
    const header = {
      level,
      position: chunk?.firstBlock ?? position,
      encoding: payload === undefined ? NO_PAYLOAD.absent : CHUNK_ENCODING.raw,
      rawBytes: bytes,
      storedBytes: bytes,
    }
    this.#listener?.onObject(header, payload ?? new Uint8Array(0))
  }
}

const sizeBytes = statSync(imagePath).size
const version = new MemoryVersion(readFileSync(imagePath))
const overlay = await openOverlay({
  root: version.root,
  versionId: version.versionId,
  ramTierBytes: where === 'ram' ? sizeBytes + 64 * MiB : 16 * MiB,
  writeCacheFolder: folder,
  writeCacheLimitBytes: 2 * GiB,
  transport: new ImageTransport(version),
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
