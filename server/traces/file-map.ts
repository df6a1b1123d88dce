/**
 * Which file lies on which blocks of a vDisk. Blocks are those of the vDisk, of 4 KiB, whatever the
 * file system's are; where a block holds parts of two files it counts for the one that ends there.
 */
import { BootwireError } from '#shared/errors.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import type { Ext4, FoundFile } from './ext4.ts'

/** A block's place in a file. */
export interface FilePlace {
  readonly file: MappedFile
  /** Which block of the file it is. */
  readonly fileBlock: number
}

export interface MappedFile extends FoundFile {
  /** Block of the vDisk with the file's inode. */
  readonly inodeBlock: number
  /** Blocks of the vDisk it lies on, in its order. */
  readonly blocks: Iterable<number>
}

/** Some hundred MB of memory; a file system in good order has one per file. */
const RUNS_MAX = 2_000_000

interface Run {
  readonly block: number
  readonly blocks: number
  readonly fileBlock: number
  readonly file: MappedFile
}

export class FileMap {
  readonly #files = new Map<string, MappedFile>()
  /** By block, without overlaps unless the file system is damaged. */
  readonly #runs: Run[] = []
  readonly #runsOf = new Map<MappedFile, Run[]>()
  readonly #metadata = new Set<number>()
  #runCount = 0

  private constructor() {
    // Made by `read`.
  }

  /** @throws {BootwireError} FILESYSTEM_UNREADABLE */
  static async read(fileSystem: Ext4, offsetBytes: number): Promise<FileMap> {
    const map = new FileMap()
    const { blockBytes } = fileSystem.geometry
    const toBlock = (fsBlock: number) =>
      Math.floor((offsetBytes + fsBlock * blockBytes) / BLOCK_BYTES)
    for await (const found of fileSystem.files()) {
      const inodeBlock = toBlock(fileSystem.inodeBlock(found.inode))
      map.#add(found, inodeBlock, (extent) => {
        const block = toBlock(extent.block)
        const end = toBlock(extent.block + extent.blocks - 1) + 1
        const fileBlock = Math.floor((extent.fileBlock * blockBytes) / BLOCK_BYTES)
        return { block, blocks: end - block, fileBlock }
      })
    }
    map.#runs.sort((a, b) => a.block - b.block)
    for (const fsBlock of fileSystem.descriptorBlocks()) map.#metadata.add(toBlock(fsBlock))
    return map
  }

  get files(): ReadonlyMap<string, MappedFile> {
    return this.#files
  }

  /** Blocks that are read when the file system is mounted: superblock and group descriptors. */
  get metadataBlocks(): Iterable<number> {
    return this.#metadata
  }

  find(path: string): MappedFile | undefined {
    return this.#files.get(path)
  }

  /** Returns undefined for blocks of no file: free ones and those of the file system itself. */
  at(block: number): FilePlace | undefined {
    let [low, high] = [0, this.#runs.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#runs[middle]?.block ?? 0) <= block) low = middle + 1
      else high = middle
    }
    const run = this.#runs[low - 1]
    if (run === undefined || block >= run.block + run.blocks) return undefined
    return { file: run.file, fileBlock: run.fileBlock + block - run.block }
  }

  /** Block of the vDisk that holds a block of a file; undefined for holes. */
  blockOf(file: MappedFile, fileBlock: number): number | undefined {
    const run = this.#runsOf
      .get(file)
      ?.find((it) => it.fileBlock <= fileBlock && fileBlock < it.fileBlock + it.blocks)
    return run && run.block + fileBlock - run.fileBlock
  }

  #add(
    found: FoundFile,
    inodeBlock: number,
    toRun: (extent: FoundFile['extents'][number]) => Omit<Run, 'file'>,
  ): void {
    const parts = found.extents.map(toRun).filter((run) => {
      return run.fileBlock * BLOCK_BYTES < found.sizeBytes
    })
    this.#runCount += parts.length
    if (this.#runCount > RUNS_MAX) {
      throw new BootwireError(
        'FILESYSTEM_UNREADABLE',
        `Cannot map the files of a file system: they are in more than ${RUNS_MAX} pieces`,
      )
    }
    const file = { ...found, inodeBlock, blocks: { [Symbol.iterator]: () => blocksOf(parts) } }
    this.#files.set(file.path, file)
    const runs = parts.map((part) => ({ ...part, file }))
    if (runs.length > 0) this.#runsOf.set(file, runs)
    for (const run of runs) this.#runs.push(run)
  }
}

function* blocksOf(runs: readonly Omit<Run, 'file'>[]): Generator<number> {
  for (const { block, blocks } of runs) {
    for (let at = 0; at < blocks; at += 1) yield block + at
  }
}
