/**
 * Which file lies on which blocks of a vDisk. Blocks are those of the vDisk, of 4 KiB, whatever the
 * file system's are; where a block holds parts of two files it counts for the one that ends there.
 */
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
}

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
      map.#add({ ...found, inodeBlock: toBlock(fileSystem.inodeBlock(found.inode)) }, (extent) => {
        const block = toBlock(extent.block)
        const end = toBlock(extent.block + extent.blocks - 1) + 1
        const fileBlock = Math.floor((extent.fileBlock * blockBytes) / BLOCK_BYTES)
        return { block, blocks: end - block, fileBlock }
      })
    }
    map.#runs.sort((a, b) => a.block - b.block)
    return map
  }

  get files(): ReadonlyMap<string, MappedFile> {
    return this.#files
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

  /** Blocks of a file, in its order. */
  *blocksOf(file: MappedFile): Generator<number> {
    for (const { block, blocks } of this.#runsOf.get(file) ?? []) {
      for (let at = 0; at < blocks; at += 1) yield block + at
    }
  }

  #add(file: MappedFile, toRun: (extent: FoundFile['extents'][number]) => Omit<Run, 'file'>): void {
    this.#files.set(file.path, file)
    const runs = file.extents.map((extent) => ({ ...toRun(extent), file }))
    if (runs.length > 0) this.#runsOf.set(file, runs)
    for (const run of runs) this.#runs.push(run)
  }
}
