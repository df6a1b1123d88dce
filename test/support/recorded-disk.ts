/**
 * A StoreDisk that remembers what was done, and can say what lies on the disk after a loss of power at
 * any moment: files hold what was synced of them and maybe more, folders name what was synced of them
 * and maybe more.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { type NewFile, NODE_DISK, type StoreDisk } from '#server/store/store-disk.ts'

type Step =
  | { readonly kind: 'create'; readonly path: string; readonly file: number }
  | { readonly kind: 'folder' | 'remove' | 'removeFolder' | 'syncFolder'; readonly path: string }
  | { readonly kind: 'rename'; readonly path: string; readonly to: string }
  | { readonly kind: 'write'; readonly file: number; readonly bytes: Buffer; readonly at: number }
  | { readonly kind: 'truncate'; readonly file: number; readonly length: number }
  | { readonly kind: 'sync'; readonly file: number }

/** What became of what was not synced. */
export interface PowerLoss {
  /** Steps that were done before. */
  readonly steps: number
  /** How many of a folder's changes since its last sync are there, of `count`; in order. */
  readonly keptNames: (count: number) => number
  /** What became of a write that was not synced. */
  readonly data: () => 'kept' | 'lost' | 'garbage'
}

export class RecordedDisk implements StoreDisk {
  readonly steps: Step[] = []
  readonly #root: string
  #files = 0

  constructor(root: string) {
    this.#root = root
  }

  async createFile(path: string): Promise<NewFile> {
    const file = this.#files
    this.#files += 1
    const real = await NODE_DISK.createFile(path)
    this.steps.push({ kind: 'create', path: this.#name(path), file })
    return {
      write: async (bytes, at) => {
        await real.write(bytes, at)
        this.steps.push({ kind: 'write', file, bytes: Buffer.from(bytes), at })
      },
      truncate: async (length) => {
        await real.truncate(length)
        this.steps.push({ kind: 'truncate', file, length })
      },
      sync: async () => void this.steps.push({ kind: 'sync', file }),
      close: () => real.close(),
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await NODE_DISK.rename(from, to)
    this.steps.push({ kind: 'rename', path: this.#name(from), to: this.#name(to) })
  }

  async removeFile(path: string): Promise<void> {
    await NODE_DISK.removeFile(path)
    this.steps.push({ kind: 'remove', path: this.#name(path) })
  }

  async createFolder(path: string): Promise<void> {
    await NODE_DISK.createFolder(path)
    this.steps.push({ kind: 'folder', path: this.#name(path) })
  }

  async removeFolder(path: string): Promise<void> {
    await NODE_DISK.removeFolder(path)
    this.steps.push({ kind: 'removeFolder', path: this.#name(path) })
  }

  async syncFolder(path: string): Promise<void> {
    this.steps.push({ kind: 'syncFolder', path: this.#name(path) })
  }

  #name(path: string): string {
    return relative(this.#root, path)
  }
}

/** A file of the model: what is on the disk for sure, and what was done to it since. */
interface Inode {
  synced: Buffer
  readonly since: Extract<Step, { kind: 'write' | 'truncate' }>[]
}

type Entry = Inode | 'folder'

/** A folder's names, and changes to them since it was synced. */
interface Folder {
  readonly synced: Map<string, Entry>
  readonly since: { readonly name: string; readonly entry: Entry | undefined }[]
}

/** Writes to `target` what a loss of power leaves of `base` and what was done to it. */
export async function leaveBehind(
  base: string,
  steps: readonly Step[],
  loss: PowerLoss,
  target: string,
): Promise<void> {
  const model = new DiskModel()
  await model.load(base, '')
  for (const step of steps.slice(0, loss.steps)) model.apply(step)
  await model.write(target, '', loss)
}

class DiskModel {
  /** By path; what a folder was called before does not matter once it is renamed. */
  readonly #folders = new Map<string, Folder>()
  readonly #inodes = new Map<number, Inode>()
  /** What the running system sees. */
  readonly #seen = new Map<string, Entry>()

  async load(base: string, path: string): Promise<void> {
    const folder: Folder = { synced: new Map(), since: [] }
    this.#folders.set(path, folder)
    for (const entry of await readdir(join(base, path), { withFileTypes: true })) {
      const name = join(path, entry.name)
      if (entry.isDirectory()) {
        folder.synced.set(entry.name, 'folder')
        this.#seen.set(name, 'folder')
        await this.load(base, name)
        continue
      }
      const inode: Inode = { synced: await readFile(join(base, name)), since: [] }
      folder.synced.set(entry.name, inode)
      this.#seen.set(name, inode)
    }
  }

  apply(step: Step): void {
    if (step.kind === 'create') {
      const inode: Inode = { synced: Buffer.alloc(0), since: [] }
      this.#inodes.set(step.file, inode)
      this.#set(step.path, inode)
    } else if (step.kind === 'write' || step.kind === 'truncate') {
      this.#inode(step.file).since.push(step)
    } else if (step.kind === 'sync') {
      const inode = this.#inode(step.file)
      inode.synced = inode.since.reduce((bytes, done) => change(bytes, done, 'kept'), inode.synced)
      inode.since.length = 0
    } else if (step.kind === 'rename') this.#rename(step.path, step.to)
    else if (step.kind === 'folder') {
      if (this.#seen.has(step.path)) return
      this.#folders.set(step.path, { synced: new Map(), since: [] })
      this.#set(step.path, 'folder')
    } else if (step.kind === 'syncFolder') this.#sync(step.path)
    else if (this.#seen.has(step.path)) this.#set(step.path, undefined)
  }

  async write(target: string, path: string, loss: PowerLoss): Promise<void> {
    const folder = this.#folders.get(path)
    const names = new Map(folder?.synced)
    const since = folder?.since ?? []
    for (const { name, entry } of since.slice(0, loss.keptNames(since.length))) {
      if (entry === undefined) names.delete(name)
      else names.set(name, entry)
    }
    await mkdir(join(target, path), { recursive: true })
    for (const [name, entry] of names) {
      if (entry === 'folder') await this.write(target, join(path, name), loss)
      else await writeFile(join(target, path, name), contentOf(entry, loss))
    }
  }

  #rename(from: string, to: string): void {
    const entry = this.#seen.get(from)
    if (entry === 'folder') {
      const folder = this.#folders.get(from)
      if (folder !== undefined) this.#folders.set(to, folder)
      for (const [path, inner] of this.#seen) {
        if (path.startsWith(`${from}/`)) this.#seen.set(to + path.slice(from.length), inner)
      }
    }
    this.#set(to, entry)
    this.#set(from, undefined)
  }

  #set(path: string, entry: Entry | undefined): void {
    if (entry === undefined) this.#seen.delete(path)
    else this.#seen.set(path, entry)
    const parent = dirname(path)
    const folder = this.#folders.get(parent === '.' ? '' : parent)
    folder?.since.push({ name: path.slice(path.lastIndexOf('/') + 1), entry })
  }

  #sync(path: string): void {
    const folder = this.#folders.get(path)
    for (const { name, entry } of folder?.since.splice(0) ?? []) {
      if (entry === undefined) folder?.synced.delete(name)
      else folder?.synced.set(name, entry)
    }
  }

  #inode(file: number): Inode {
    const inode = this.#inodes.get(file)
    if (inode === undefined) throw new Error(`file ${file} was created`)
    return inode
  }
}

function contentOf({ synced, since }: Inode, loss: PowerLoss): Buffer {
  return since.reduce((bytes, step) => change(bytes, step, loss.data()), synced)
}

function change(
  bytes: Buffer,
  step: Extract<Step, { kind: 'write' | 'truncate' }>,
  fate: 'kept' | 'lost' | 'garbage',
): Buffer {
  if (fate === 'lost') return bytes
  if (step.kind === 'truncate') return bytes.subarray(0, step.length)
  const end = step.at + step.bytes.length
  const changed = Buffer.alloc(Math.max(bytes.length, end))
  bytes.copy(changed)
  if (fate === 'kept') step.bytes.copy(changed, step.at)
  else changed.fill(0x5a, step.at, end)
  return changed
}
