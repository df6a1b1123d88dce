/** Looks whether packs are what their indexes say, and their chunks what they were. */
import { open, stat } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import type { CheckOptions } from '../chunk-store.ts'
import type { Pack } from '../packs/pack.ts'
import { IndexEntries, PACK_HEADER_BYTES, packHeaderFault } from '../packs/pack-format.ts'
import { scanPack } from '../packs/pack-scan.ts'
import type { PackSet } from '../packs/pack-set.ts'
import { isMissing, readFully } from '../read-fully.ts'
import type { SpanPool } from '../writing/span-pool.ts'

/** Chunks a worker proves in one go: some ten milliseconds. */
const PROVE_AT_ONCE = 256

/** What there is of a pack. */
export interface CheckedPack {
  readonly pack: Pack
  /** Sound chunks, as far as they were looked at. */
  readonly entries: IndexEntries
  /** Chunks that are not what they should be, by offset, and why. */
  readonly damaged: ReadonlyMap<number, string>
  /** What is wrong with the pack as a whole. */
  readonly packFault?: string
  /** None of its chunks can be read… */
  readonly isUnreadable?: boolean
  /** … since its file is not there. */
  readonly isGone?: boolean
  /** What is wrong with its index; `entries` were read from the pack then. */
  readonly indexFault?: string
  readonly chunksRead: number
}

export interface PackCheckContext extends CheckOptions {
  readonly packs: PackSet
  readonly pool: SpanPool
  readonly signal: AbortSignal
  readonly onBytes: (packBytes: number) => void
}

export async function checkPack(pack: Pack, context: PackCheckContext): Promise<CheckedPack> {
  const { packs, signal } = context
  const fault = await packFault(pack)
  if (fault?.isFatal === true) {
    const entries = new IndexEntries()
    const { why, isGone } = fault
    return {
      pack,
      entries,
      damaged: new Map(),
      packFault: why,
      isUnreadable: true,
      isGone,
      chunksRead: 0,
    }
  }
  const packPart = fault && { packFault: fault.why }
  const indexed = await readIndex(packs, pack)
  if (indexed.entries === undefined) {
    const { entries, damagedAt } = await scanPack(pack.path, signal)
    const damaged = new Map(damagedAt.map((offset) => [offset, 'it is damaged']))
    context.onBytes(totalBytes(entries))
    const chunksRead = entries.count
    return { pack, entries, damaged, indexFault: indexed.fault, chunksRead, ...packPart }
  }
  const { damaged, chunksRead } = await proveChunks(pack, indexed.entries, context)
  await noteCutOff(pack, indexed.entries, damaged)
  return { pack, entries: without(indexed.entries, damaged), damaged, chunksRead, ...packPart }
}

/** Returns the entries but those of damaged chunks. */
export function without(
  entries: IndexEntries,
  damaged: ReadonlyMap<number, unknown>,
): IndexEntries {
  if (damaged.size === 0) return entries
  const sound = new IndexEntries()
  for (let index = 0; index < entries.count; index += 1) {
    if (!damaged.has(entries.offset(index))) sound.add(entries.get(index))
  }
  return sound
}

async function packFault(
  pack: Pack,
): Promise<
  { readonly why: string; readonly isFatal: boolean; readonly isGone: boolean } | undefined
> {
  try {
    await using file = await open(pack.path)
    const header = new Uint8Array(PACK_HEADER_BYTES)
    const why = packHeaderFault(header.subarray(0, await readFully(file, header, 0)))
    // Nobody needs the header to read chunks.
    return why === undefined ? undefined : { why, isFatal: false, isGone: false }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { why, isFatal: true, isGone: isMissing(error) }
  }
}

/** Also those whose data is not read. */
async function noteCutOff(
  pack: Pack,
  entries: IndexEntries,
  damaged: Map<number, string>,
): Promise<void> {
  const { size } = await stat(pack.path)
  for (let index = entries.count - 1; index >= 0; index -= 1) {
    const offset = entries.offset(index)
    if (offset + entries.recordBytes(index) <= size) return
    damaged.set(offset, 'the pack is cut off before its end')
  }
}

async function readIndex(
  packs: PackSet,
  pack: Pack,
): Promise<
  | { readonly entries: IndexEntries; readonly fault?: undefined }
  | { readonly entries?: undefined; readonly fault: string }
> {
  try {
    return { entries: await packs.readIndex(pack) }
  } catch (error) {
    if (error instanceof BootwireError) return { fault: error.message }
    throw error
  }
}

async function proveChunks(
  pack: Pack,
  entries: IndexEntries,
  { readDataShare, pool, signal, onBytes }: PackCheckContext,
): Promise<{ readonly damaged: Map<number, string>; readonly chunksRead: number }> {
  const damaged = new Map<number, string>()
  let chunksRead = 0
  const underway: Promise<void>[] = []
  for (let from = 0; from < entries.count; from += PROVE_AT_ONCE) {
    signal.throwIfAborted()
    const chosen = chosenEntries(entries, from, readDataShare)
    chunksRead += chosen.count
    const bytes = totalBytes(entries, from)
    const proven = chosen.count === 0 ? undefined : pool.prove(pack.path, chosen.bytes.slice())
    const done = Promise.resolve(proven).then((answer) => {
      for (const { offset, why } of answer?.damaged ?? []) damaged.set(offset, why)
      onBytes(bytes)
    })
    underway.push(done)
    if (underway.length >= pool.jobsMax) await underway.shift()
  }
  await Promise.all(underway)
  return { damaged, chunksRead }
}

function chosenEntries(entries: IndexEntries, from: number, share: number): IndexEntries {
  const chosen = new IndexEntries()
  const end = Math.min(from + PROVE_AT_ONCE, entries.count)
  for (let index = from; index < end; index += 1) {
    if (Math.random() < share) chosen.add(entries.get(index))
  }
  return chosen
}

/** Length of up to PROVE_AT_ONCE chunks from one on, or of all, with their headers. */
function totalBytes(entries: IndexEntries, from?: number): number {
  const end = from === undefined ? entries.count : Math.min(from + PROVE_AT_ONCE, entries.count)
  let bytes = 0
  for (let index = from ?? 0; index < end; index += 1) {
    bytes += entries.recordBytes(index)
  }
  return bytes
}
