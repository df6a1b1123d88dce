/**
 * The file `nodes` of a version: the nodes of its tree, level by level, leaves first, and behind them a
 * table of where each is (FORMAT.md). Nodes that are all zero are not there.
 */
import type { FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { LEVEL_MAX } from '#shared/manifest/tree-shape.ts'
import { readFully } from '../read-fully.ts'
import type { NewFile } from '../store-disk.ts'
import type { TreeNode } from './tree-builder.ts'

const FORMAT_VERSION = 2
const MAGIC = new TextEncoder().encode('bwnodes\n')
const ENTRY_BYTES = 12
const TRAILER_BYTES = 24
/** One write of a megabyte costs no more than one of 15 KB. */
const BUFFER_BYTES = 1024 * 1024 + LEAF_BYTES_MAX

interface NodeEntry {
  readonly level: number
  readonly position: number
  readonly lengthBytes: number
  /** CRC-32 of the node. */
  readonly checksum: number
}

export class NodesWriter {
  readonly #file: NewFile
  readonly #entries: NodeEntry[] = []
  readonly #buffer = new Uint8Array(BUFFER_BYTES)
  #buffered = 0
  #writtenBytes = 0

  constructor(file: NewFile) {
    this.#file = file
  }

  async add({ level, position, bytes }: TreeNode): Promise<void> {
    if (this.#buffered + bytes.length > this.#buffer.length) await this.#flush()
    this.#buffer.set(bytes, this.#buffered)
    this.#buffered += bytes.length
    const lengthBytes = bytes.length
    this.#entries.push({ level, position, lengthBytes, checksum: crc32(bytes) })
  }

  /** Writes the table; the file is not synced yet. */
  async finish(): Promise<void> {
    await this.#flush()
    const table = Buffer.alloc(this.#entries.length * ENTRY_BYTES + TRAILER_BYTES)
    let at = 0
    for (const { level, position, lengthBytes, checksum } of this.#entries) {
      table.writeUInt32BE(level * 2 ** 24 + lengthBytes, at)
      table.writeUInt32BE(position, at + 4)
      table.writeUInt32BE(checksum, at + 8)
      at += ENTRY_BYTES
    }
    table.set(MAGIC, at)
    table.writeUInt32BE(FORMAT_VERSION, at + 8)
    table.writeUInt32BE(this.#entries.length, at + 12)
    table.writeUInt32BE(crc32(table.subarray(0, at + 20)), at + 20)
    await this.#file.write(table, this.#writtenBytes)
  }

  async #flush(): Promise<void> {
    if (this.#buffered === 0) return
    await this.#file.write(this.#buffer.subarray(0, this.#buffered), this.#writtenBytes)
    this.#writtenBytes += this.#buffered
    this.#buffered = 0
  }
}

/** Where one node lies. */
export interface NodePlace {
  readonly offsetBytes: number
  readonly lengthBytes: number
  readonly checksum: number
}

/** Where the nodes of a version lie: 20 bytes for 16 MiB of the vDisk. */
export class NodeTable {
  /** Index of the first node of each level; level 1 begins at 0. */
  readonly #levelStarts: number[]
  readonly #positions: Uint32Array
  readonly #offsets: Float64Array
  readonly #lengths: Uint32Array
  readonly #checksums: Uint32Array

  private constructor(levelStarts: number[], columns: NodeColumns) {
    this.#levelStarts = levelStarts
    this.#positions = columns.positions
    this.#offsets = columns.offsets
    this.#lengths = columns.lengths
    this.#checksums = columns.checksums
  }

  /** @throws {BootwireError} STATE_UNREADABLE naming the path */
  static async read(file: FileHandle, path: string): Promise<NodeTable> {
    const refuse = (why: string) =>
      new BootwireError('STATE_UNREADABLE', `Cannot read "${path}": ${why}`)
    const { size } = await file.stat()
    const trailer = Buffer.alloc(TRAILER_BYTES)
    if (size < TRAILER_BYTES) throw refuse('it is too short')
    await readFully(file, trailer, size - TRAILER_BYTES)
    if (!MAGIC.every((byte, at) => trailer[at] === byte)) throw refuse('it has no table')
    const format = trailer.readUInt32BE(8)
    if (format !== FORMAT_VERSION) {
      throw refuse(`it has format ${format}, expected ${FORMAT_VERSION}`)
    }
    const count = trailer.readUInt32BE(12)
    const tableAt = size - TRAILER_BYTES - count * ENTRY_BYTES
    if (tableAt < 0) throw refuse(`it has no room for ${count} nodes`)
    const table = Buffer.alloc(size - tableAt)
    await readFully(file, table, tableAt)
    const checkedBytes = table.length - 4
    if (crc32(table.subarray(0, checkedBytes)) !== table.readUInt32BE(checkedBytes)) {
      throw refuse('the checksum of its table does not fit')
    }
    const columns = decodeColumns(table, count)
    if (columns.endBytes !== tableAt) throw refuse('its table does not fit its length')
    return new NodeTable(columns.levelStarts, columns)
  }

  get count(): number {
    return this.#positions.length
  }

  /** Undefined when everything there is zero, or there is no such node. */
  find(level: number, position: number): NodePlace | undefined {
    const end = this.#levelStarts[level + 1] ?? this.#positions.length
    let low = this.#levelStarts[level] ?? end
    let high = end
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#positions[middle] ?? 0) < position) low = middle + 1
      else high = middle
    }
    return low < end && this.#positions[low] === position ? this.#place(low) : undefined
  }

  #place(index: number): NodePlace {
    return {
      offsetBytes: this.#offsets[index] ?? 0,
      lengthBytes: this.#lengths[index] ?? 0,
      checksum: this.#checksums[index] ?? 0,
    }
  }
}

interface NodeColumns {
  readonly positions: Uint32Array
  readonly offsets: Float64Array
  readonly lengths: Uint32Array
  readonly checksums: Uint32Array
}

function decodeColumns(
  table: Buffer,
  count: number,
): NodeColumns & { readonly levelStarts: number[]; readonly endBytes: number } {
  const positions = new Uint32Array(count)
  const offsets = new Float64Array(count)
  const lengths = new Uint32Array(count)
  const checksums = new Uint32Array(count)
  const levelStarts = Array.from({ length: LEVEL_MAX + 2 }, () => count)
  let endBytes = 0
  for (let index = 0; index < count; index += 1) {
    const word = table.readUInt32BE(index * ENTRY_BYTES)
    const level = word >>> 24
    positions[index] = table.readUInt32BE(index * ENTRY_BYTES + 4)
    offsets[index] = endBytes
    lengths[index] = word & 0xff_ffff
    checksums[index] = table.readUInt32BE(index * ENTRY_BYTES + 8)
    invariant(level <= LEVEL_MAX, `a node of level ${level} with the right checksum`)
    for (let below = level; below >= 0; below -= 1) {
      levelStarts[below] = Math.min(levelStarts[below] ?? count, index)
    }
    endBytes += word & 0xff_ffff
  }
  return { positions, offsets, lengths, checksums, levelStarts, endBytes }
}
