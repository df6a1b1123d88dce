/**
 * What a program needs to be started: its loader and its libraries, by the names the dynamic linker
 * looks for (ELF-64 specification, chapters 5 and 8). Little-endian 64-bit files only, which is all that
 * bootwire boots. The bytes are an image's: what makes no sense is no program.
 */

/** Reads a part of the file; shorter at its end. */
export type ReadPart = (offsetBytes: number, lengthBytes: number) => Promise<Uint8Array>

export interface ElfNeeds {
  /** Path of the dynamic linker; absent for libraries. */
  readonly interpreter?: string
  /** Names of libraries, in the order of the file. */
  readonly libraries: readonly string[]
  /** Where to look first, as it is written: may hold `$ORIGIN`. */
  readonly runPath: readonly string[]
}

const HEADER_BYTES = 64
const PROGRAM_HEADER_BYTES = 56
const PROGRAM_HEADERS_MAX = 64
const DYNAMIC_BYTES_MAX = 16 * 1024
const STRINGS_BYTES_MAX = 512 * 1024
const TEXT_BYTES_MAX = 4096

const PT_LOAD = 1
const PT_DYNAMIC = 2
const PT_INTERP = 3
const DT_NEEDED = 1
const DT_STRTAB = 5
const DT_STRSZ = 10
const DT_RPATH = 15
const DT_RUNPATH = 29

interface Segment {
  readonly type: number
  readonly offset: number
  readonly address: number
  readonly bytes: number
}

/** Returns undefined for what is no such file. */
export async function elfNeeds(read: ReadPart): Promise<ElfNeeds | undefined> {
  const segments = await readSegments(read)
  if (segments === undefined) return undefined
  const interpreter = await readInterpreter(read, segments)
  const base = interpreter === undefined ? {} : { interpreter }
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC)
  if (dynamic === undefined) return { ...base, libraries: [], runPath: [] }
  const entries = dynamicEntries(
    await read(dynamic.offset, Math.min(dynamic.bytes, DYNAMIC_BYTES_MAX)),
  )
  const strings = await readStrings(read, segments, entries)
  const textsOf = (...tags: readonly number[]) =>
    entries.filter(([tag]) => tags.includes(tag)).map(([, value]) => textAt(strings, value))
  return {
    ...base,
    libraries: textsOf(DT_NEEDED).filter((name) => name !== ''),
    runPath: textsOf(DT_RUNPATH, DT_RPATH).flatMap((path) => path.split(':')),
  }
}

async function readSegments(read: ReadPart): Promise<Segment[] | undefined> {
  const header = viewOf(await read(0, HEADER_BYTES))
  // 0x7f ELF, 64 bits, little-endian.
  if (header.byteLength < HEADER_BYTES || header.getUint32(0) !== 0x7f45_4c46) return undefined
  if (header.getUint16(4) !== 0x0201) return undefined
  const count = header.getUint16(56, true)
  if (header.getUint16(54, true) !== PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX) {
    return undefined
  }
  const at = Number(header.getBigUint64(32, true))
  const table = viewOf(await read(at, count * PROGRAM_HEADER_BYTES))
  if (table.byteLength < count * PROGRAM_HEADER_BYTES) return undefined
  return Array.from({ length: count }, (_, index) => {
    const entry = index * PROGRAM_HEADER_BYTES
    const u64 = (offset: number) => Number(table.getBigUint64(entry + offset, true))
    return { type: table.getUint32(entry, true), offset: u64(8), address: u64(16), bytes: u64(32) }
  })
}

async function readInterpreter(
  read: ReadPart,
  segments: readonly Segment[],
): Promise<string | undefined> {
  const segment = segments.find(({ type }) => type === PT_INTERP)
  if (segment === undefined) return undefined
  return textAt(await read(segment.offset, Math.min(segment.bytes, TEXT_BYTES_MAX)), 0)
}

function dynamicEntries(bytes: Uint8Array): [tag: number, value: number][] {
  const view = viewOf(bytes)
  return Array.from({ length: Math.floor(bytes.length / 16) }, (_, index) => [
    Number(view.getBigUint64(16 * index, true)),
    Number(view.getBigUint64(16 * index + 8, true)),
  ])
}

async function readStrings(
  read: ReadPart,
  segments: readonly Segment[],
  entries: readonly (readonly [tag: number, value: number])[],
): Promise<Uint8Array> {
  const valueOf = (wanted: number) => entries.find(([tag]) => tag === wanted)?.[1] ?? 0
  const address = valueOf(DT_STRTAB)
  const segment = segments.find((it) => {
    return it.type === PT_LOAD && it.address <= address && address < it.address + it.bytes
  })
  if (segment === undefined) return new Uint8Array(0)
  const offset = segment.offset + address - segment.address
  return await read(offset, Math.min(valueOf(DT_STRSZ), STRINGS_BYTES_MAX))
}

function textAt(bytes: Uint8Array, at: number): string {
  const end = bytes.indexOf(0, at)
  return Buffer.from(bytes.subarray(at, end < 0 ? bytes.length : end)).toString('utf8')
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
