/**
 * Reads of an ext4 file system which file lies where (kernel documentation, filesystems/ext4). Only
 * what tells that: superblock, group descriptors, inodes with extents, directories. What it does not
 * know (block maps of ext2 and ext3, inline data, encrypted names) has no place; what makes no sense
 * ends the reading. The bytes are an image's, so nothing in them is believed without a bound.
 *
 * Integers little-endian.
 */
import { BootwireError } from '#shared/errors.ts'

/** Reads of the image; bytes beyond its end are zero. */
export type ReadImage = (offsetBytes: number, lengthBytes: number) => Promise<Uint8Array>

/** A run of a file's blocks, in blocks of the file system. */
export interface FileExtent {
  /** Within the file. */
  readonly fileBlock: number
  /** Within the file system. */
  readonly block: number
  readonly blocks: number
}

export interface FoundFile {
  /** Absolute. Bytes that are no UTF-8 are replaced. */
  readonly path: string
  readonly kind: 'file' | 'folder' | 'link'
  readonly inode: number
  readonly sizeBytes: number
  readonly extents: readonly FileExtent[]
  /** Target of a link that is kept in its inode. */
  readonly target?: string
}

/** An extent tree while it is read. */
interface ExtentTree {
  readonly extents: FileExtent[]
  /** Read so far. */
  blocks: number
}

const SUPERBLOCK_AT = 1024
const SUPERBLOCK_BYTES = 1024
const MAGIC = 0xef53
const ROOT_INODE = 2
const EXTENT_MAGIC = 0xf30a
const EXTENT_DEPTH_MAX = 5
const FLAG_EXTENTS = 0x8_0000
const MODE_KIND = 0xf000
const KINDS: Readonly<Record<number, FoundFile['kind']>> = {
  0x8000: 'file',
  0x4000: 'folder',
  0xa000: 'link',
}
const FEATURE_META_BG = 0x10
const FEATURE_64BIT = 0x80
/** A link this short has its target in place of its extents. */
const INLINE_LINK_BYTES_MAX = 59
const DIRECTORY_ENTRY_BYTES = 8

/** Folders in folders. */
const DEPTH_MAX = 64
/** Files of a large server; more are not worth the time. */
const FILES_MAX = 1_000_000
const FOLDER_BYTES_MAX = 64 * 1024 * 1024
const EXTENTS_PER_FILE_MAX = 10_000
/** Blocks of extent trees: of a file, where ten times as many extents fit, and of all files. */
const EXTENT_BLOCKS_PER_FILE_MAX = 300
const EXTENT_BLOCKS_MAX = 1_000_000
/** Of all folders: a million names of the greatest length, with room to spare. */
const FOLDERS_BYTES_MAX = 512 * 1024 * 1024
/** Of the table of groups: a file system of 16 TiB has 8 MiB. */
const DESCRIPTORS_BYTES_MAX = 64 * 1024 * 1024

export interface Ext4Geometry {
  readonly blockBytes: number
  readonly blockCount: number
  readonly inodesPerGroup: number
  readonly inodeBytes: number
  readonly groupCount: number
  readonly blocksPerGroup: number
  readonly descriptorBytes: number
}

export class Ext4 {
  readonly geometry: Ext4Geometry
  /** Where the file system begins in the image. */
  readonly #offsetBytes: number
  readonly #read: ReadImage
  readonly #inodeTables: readonly number[]
  /** Of extent trees, read so far. */
  #extentBlocks = 0

  private constructor(
    geometry: Ext4Geometry,
    offsetBytes: number,
    read: ReadImage,
    inodeTables: readonly number[],
  ) {
    this.geometry = geometry
    this.#offsetBytes = offsetBytes
    this.#read = read
    this.#inodeTables = inodeTables
  }

  /** Returns undefined when there is no ext4 that this can read. */
  static async open(read: ReadImage, offsetBytes: number): Promise<Ext4 | undefined> {
    const superblock = viewOf(await read(offsetBytes + SUPERBLOCK_AT, SUPERBLOCK_BYTES))
    const geometry = geometryOf(superblock)
    if (geometry === undefined) return undefined
    const { blockBytes, groupCount, descriptorBytes } = geometry
    const tableAt = (firstDataBlock(blockBytes) + 1) * blockBytes
    const table = viewOf(await read(offsetBytes + tableAt, groupCount * descriptorBytes))
    const inodeTables = Array.from({ length: groupCount }, (_, group) => {
      const at = group * descriptorBytes
      const high = descriptorBytes >= 64 ? table.getUint32(at + 0x28, true) : 0
      return high * 2 ** 32 + table.getUint32(at + 8, true)
    })
    return new Ext4(geometry, offsetBytes, read, inodeTables)
  }

  /** Blocks of the superblock and of the table of groups behind it. */
  *descriptorBlocks(): Generator<number> {
    const { blockBytes, groupCount, descriptorBytes } = this.geometry
    const first = firstDataBlock(blockBytes)
    const tableBlocks = Math.ceil((groupCount * descriptorBytes) / blockBytes)
    for (let block = first; block <= first + tableBlocks; block += 1) yield block
  }

  /** Block of the file system in which an inode lies. */
  inodeBlock(inode: number): number {
    const { inodesPerGroup, inodeBytes, blockBytes } = this.geometry
    const table = this.#inodeTables[Math.floor((inode - 1) / inodesPerGroup)] ?? 0
    return table + Math.floor((((inode - 1) % inodesPerGroup) * inodeBytes) / blockBytes)
  }

  /** All files, folders and links, those of a folder behind it. @throws {BootwireError} */
  async *files(): AsyncGenerator<FoundFile> {
    let count = 0
    let folderBytes = 0
    const seenFolders = new Set<number>()
    const waiting: { inode: number; path: string; depth: number }[] = [
      { inode: ROOT_INODE, path: '', depth: 0 },
    ]
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { inode, path, depth } = next
      const found = await this.#file(inode, path === '' ? '/' : path)
      if (found === undefined) continue
      count += 1
      yield found
      if (found.kind !== 'folder' || depth >= DEPTH_MAX || seenFolders.has(inode)) continue
      seenFolders.add(inode)
      folderBytes += Math.min(found.sizeBytes, FOLDER_BYTES_MAX)
      if (folderBytes > FOLDERS_BYTES_MAX) throw unusable('its folders are too large')
      const children = (await this.#children(found)).toReversed()
      // Before they are kept: what a damaged folder names may be anything.
      if (count + waiting.length + children.length > FILES_MAX) throw tooMany()
      for (const child of children) {
        waiting.push({ inode: child.inode, path: `${path}/${child.name}`, depth: depth + 1 })
      }
    }
  }

  /** Reads a part of a file; holes are zero. */
  async readFile(file: FoundFile, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const { blockBytes } = this.geometry
    const end = Math.min(file.sizeBytes, offsetBytes + lengthBytes)
    const bytes = new Uint8Array(Math.max(0, end - offsetBytes))
    for (const { fileBlock, block, blocks } of file.extents) {
      const from = Math.max(offsetBytes, fileBlock * blockBytes)
      const to = Math.min(end, (fileBlock + blocks) * blockBytes)
      if (from >= to) continue
      const at = this.#offsetBytes + block * blockBytes + (from - fileBlock * blockBytes)
      bytes.set(await this.#read(at, to - from), from - offsetBytes)
    }
    return bytes
  }

  async #file(inode: number, path: string): Promise<FoundFile | undefined> {
    const { inodesPerGroup, inodeBytes, blockBytes } = this.geometry
    const table = this.#inodeTables[Math.floor((inode - 1) / inodesPerGroup)]
    if (inode < 1 || table === undefined) return undefined
    const at = table * blockBytes + ((inode - 1) % inodesPerGroup) * inodeBytes
    const view = viewOf(await this.#read(this.#offsetBytes + at, inodeBytes))
    const kind = KINDS[view.getUint16(0, true) & MODE_KIND]
    if (kind === undefined) return undefined
    const sizeBytes = view.getUint32(0x6c, true) * 2 ** 32 + view.getUint32(4, true)
    const found = { path, kind, inode, sizeBytes }
    if (kind === 'link' && sizeBytes <= INLINE_LINK_BYTES_MAX) {
      const target = textOf(view, 0x28, sizeBytes)
      return { ...found, extents: [], target }
    }
    if ((view.getUint32(0x20, true) & FLAG_EXTENTS) === 0) return { ...found, extents: [] }
    const extents: FileExtent[] = []
    const tree = { extents, blocks: 0 }
    await this.#addExtents(tree, viewOf(bytesOf(view, 0x28, 60)), EXTENT_DEPTH_MAX)
    return { ...found, extents }
  }

  async #addExtents(tree: ExtentTree, node: DataView, depthMax: number): Promise<void> {
    if (node.getUint16(0, true) !== EXTENT_MAGIC) throw unusable('an extent tree is damaged')
    const count = node.getUint16(2, true)
    const depth = node.getUint16(6, true)
    if (depth > depthMax || 12 * (count + 1) > node.byteLength) {
      throw unusable('an extent tree is damaged')
    }
    for (let at = 12; at < 12 * (count + 1); at += 12) {
      const fileBlock = node.getUint32(at, true)
      if (depth > 0) {
        const block = node.getUint16(at + 8, true) * 2 ** 32 + node.getUint32(at + 4, true)
        // A tree that goes round in itself would have no end.
        if (tree.blocks === EXTENT_BLOCKS_PER_FILE_MAX) return
        tree.blocks += 1
        this.#extentBlocks += 1
        if (this.#extentBlocks > EXTENT_BLOCKS_MAX) throw unusable('its extent trees are too large')
        await this.#addExtents(tree, await this.#block(block), depth - 1)
        continue
      }
      const length = node.getUint16(at + 4, true)
      const block = node.getUint16(at + 6, true) * 2 ** 32 + node.getUint32(at + 8, true)
      // Longer ones are allocated and not written: they read as zeros.
      if (length > 0x8000) continue
      if (block + length > this.geometry.blockCount) throw unusable('an extent lies outside')
      tree.extents.push({ fileBlock, block, blocks: length })
      if (tree.extents.length > EXTENTS_PER_FILE_MAX) return
    }
  }

  async #block(block: number): Promise<DataView> {
    const { blockBytes, blockCount } = this.geometry
    if (block >= blockCount) throw unusable(`block ${block} lies outside`)
    return viewOf(await this.#read(this.#offsetBytes + block * blockBytes, blockBytes))
  }

  async #children(folder: FoundFile): Promise<{ inode: number; name: string }[]> {
    const { blockBytes } = this.geometry
    const length = Math.min(folder.sizeBytes, FOLDER_BYTES_MAX)
    const view = viewOf(await this.readFile(folder, 0, length))
    const children: { inode: number; name: string }[] = []
    for (let block = 0; block < view.byteLength; block += blockBytes) {
      const end = Math.min(block + blockBytes, view.byteLength)
      for (let at = block; at + DIRECTORY_ENTRY_BYTES <= end; ) {
        const inode = view.getUint32(at, true)
        const entryBytes = view.getUint16(at + 4, true)
        const nameBytes = view.getUint8(at + 6)
        if (entryBytes < DIRECTORY_ENTRY_BYTES || at + entryBytes > end) break
        if (inode !== 0 && nameBytes > 0 && DIRECTORY_ENTRY_BYTES + nameBytes <= entryBytes) {
          const name = textOf(view, at + DIRECTORY_ENTRY_BYTES, nameBytes)
          if (name !== '.' && name !== '..') children.push({ inode, name })
          if (children.length > FILES_MAX) throw tooMany()
        }
        at += entryBytes
      }
    }
    return children
  }
}

function geometryOf(superblock: DataView): Ext4Geometry | undefined {
  const u32 = (at: number) => superblock.getUint32(at, true)
  const incompatible = u32(0x60)
  const logBlock = u32(0x18)
  const inodesPerGroup = u32(0x28)
  const blocksPerGroup = u32(0x20)
  const isKnown =
    superblock.getUint16(0x38, true) === MAGIC &&
    logBlock <= 6 &&
    inodesPerGroup > 0 &&
    blocksPerGroup > 0 &&
    (incompatible & FEATURE_META_BG) === 0
  if (!isKnown) return undefined
  const is64Bit = (incompatible & FEATURE_64BIT) !== 0
  const blockCount = (is64Bit ? u32(0x150) * 2 ** 32 : 0) + u32(4)
  const inodeBytes = u32(0x4c) === 0 ? 128 : superblock.getUint16(0x58, true)
  const descriptorBytes = is64Bit ? superblock.getUint16(0xfe, true) : 32
  const groupCount = Math.ceil(blockCount / blocksPerGroup)
  if (inodeBytes < 128 || inodeBytes > 4096 || descriptorBytes < 32 || descriptorBytes > 1024) {
    return undefined
  }
  if (groupCount * descriptorBytes > DESCRIPTORS_BYTES_MAX) return undefined
  const blockBytes = 1024 << logBlock
  return {
    blockBytes,
    blockCount,
    inodesPerGroup,
    inodeBytes,
    groupCount,
    blocksPerGroup,
    descriptorBytes,
  }
}

/** The block with the superblock, which is at byte 1024. */
function firstDataBlock(blockBytes: number): number {
  return blockBytes === 1024 ? 1 : 0
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function bytesOf(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length)
}

const decoder = new TextDecoder()

function textOf(view: DataView, at: number, length: number): string {
  return decoder.decode(bytesOf(view, at, length))
}

function tooMany(): BootwireError {
  return unusable(`it has more than ${FILES_MAX} files`)
}

function unusable(why: string): BootwireError {
  return new BootwireError('FILESYSTEM_UNREADABLE', `Cannot read the ext4 file system: ${why}`)
}
