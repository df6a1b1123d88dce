/** Finds chunks by their hash in the index of an import's session, and proves them. */
import { crc32 } from 'node:zlib'
import { readUpTo } from '../checked-read.ts'
import type { Pack } from '../packs/pack.ts'
import { CHUNK_HEADER_BYTES, RECORD_BYTES_MAX, readChunkHeader } from '../packs/pack-format.ts'
import type { PackSet } from '../packs/pack-set.ts'
import type { Place } from '../versions/place-table.ts'
import type { ImportSession } from './import-session.ts'

export class ChunkSearch {
  readonly #session: ImportSession
  readonly #packs: PackSet
  readonly #onFound: (pack: Pack) => void
  readonly #record = new Uint8Array(RECORD_BYTES_MAX)

  /** `onFound` is called in one step with the find: whoever shall stay because of it is known then. */
  constructor(session: ImportSession, packs: PackSet, onFound: (pack: Pack) => void) {
    this.#session = session
    this.#packs = packs
    this.#onFound = onFound
  }

  async find(hash: Uint8Array): Promise<Place | undefined> {
    const view = new DataView(hash.buffer, hash.byteOffset, hash.length)
    const words = [view.getUint32(0), view.getUint32(4)] as const
    const refused = new Set<Pack>()
    for (;;) {
      // What an import is still writing is not durable, and may yet be given up.
      const isUsable = (pack: Pack) => !pack.isLeaving && !pack.writer && !refused.has(pack)
      const found = this.#session.index.find(...words, isUsable)
      if (found === undefined) return undefined
      this.#onFound(found.pack)
      const place = await this.#look(found.pack, found.offset, hash)
      if (place !== undefined) return place
      refused.add(found.pack)
    }
  }

  async #look(pack: Pack, offset: number, hash: Uint8Array): Promise<Place | undefined> {
    const file = await this.#packs.openFile(pack.id).catch(() => undefined)
    if (file === undefined) return undefined
    try {
      const length = await readUpTo(file.descriptor, this.#record, offset, RECORD_BYTES_MAX)
      const chunk = readChunkHeader(this.#record.subarray(0, length), 0)
      if (chunk === undefined || Buffer.compare(chunk.hash, hash) !== 0) return undefined
      const end = CHUNK_HEADER_BYTES + chunk.storedBytes
      if (end > length) return undefined
      if (crc32(this.#record.subarray(CHUNK_HEADER_BYTES, end)) !== chunk.checksum) return undefined
      const { encoding, storedBytes, checksum } = chunk
      return { packId: pack.id, offset, encoding, storedBytes, checksum }
    } finally {
      await this.#packs.closeFile(file)
    }
  }
}
