/** What a cache remembers of itself, in two pages that are written in turn: the newer sound one counts. */
import { PAGE_BYTES } from './cache-layout.ts'
import { isPage, PAGE_FIELDS_OFFSET, PAGE_KIND, sealPage } from './metadata-page.ts'

export interface CacheState {
  readonly sequence: number
  /** Counts openings and hours of use: what "last used" is measured in, since no clock can be trusted. */
  readonly clock: number
  /** Bytes that may still be written, as if the segment at hand were already full. */
  readonly budgetLeftBytes: number
  /** No segment from this on was ever used. */
  readonly segmentsUsed: number
  /** Objects there were: about as many as will be found. */
  readonly objects: number
  /** Of the cache's life. */
  readonly writtenBytes: number
}

const AT = PAGE_FIELDS_OFFSET

export function encodeState(state: CacheState, cacheId: Buffer): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeUInt32BE(state.sequence, AT)
  page.writeUInt32BE(state.clock, AT + 4)
  page.writeUInt32BE(state.segmentsUsed, AT + 8)
  page.writeUInt32BE(state.objects, AT + 12)
  page.writeBigUInt64BE(BigInt(state.budgetLeftBytes), AT + 16)
  page.writeBigUInt64BE(BigInt(state.writtenBytes), AT + 24)
  sealPage(page, PAGE_KIND.state, cacheId)
  return page
}

export function decodeState(page: Buffer, cacheId: Buffer): CacheState | undefined {
  if (!isPage(page, PAGE_KIND.state, cacheId)) return undefined
  return {
    sequence: page.readUInt32BE(AT),
    clock: page.readUInt32BE(AT + 4),
    segmentsUsed: page.readUInt32BE(AT + 8),
    objects: page.readUInt32BE(AT + 12),
    budgetLeftBytes: Number(page.readBigUInt64BE(AT + 16)),
    writtenBytes: Number(page.readBigUInt64BE(AT + 24)),
  }
}
