/**
 * Walks a mounted image along path patterns. Images come from anywhere: a folder is entered and a file
 * opened by its name in a folder that is open, and neither when it is a symbolic link, so that no image
 * leads out of its root, not even one that changes meanwhile. Pipes and devices are not opened. Folders
 * near the root come first, since what matters lies there; what goes beyond the limits is left out and
 * said.
 */
import type { Dirent } from 'node:fs'
import { constants, type FileHandle, lstat, open, opendir } from 'node:fs/promises'
import { type Step, step, type Trail, trailsBelow } from './path-pattern.ts'

/** The folders that are entered have some 5000 entries on a desktop, and its homes as many as people keep. */
const ENTRIES_MAX = 200_000

/** A mail folder may have that many; names with a meaning lie among few. */
const FOLDER_ENTRIES_MAX = 20_000

/** Homes hold trees of sources; nobody keeps keys this deep. */
const DEPTH_MAX = 12

/** Nobody is to wait for longer in an import; a large home takes ten seconds. */
const WALK_MS_MAX = 60_000

const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
/** Opening a pipe would wait for whoever writes to it. */
const FILE_FLAGS =
  constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY

/** A regular file that patterns match. */
export interface WalkedFile<Owner> {
  /** Absolute in the image. Bytes that are no UTF-8 are replaced. */
  readonly path: string
  readonly sizeBytes: number
  readonly owners: readonly Owner[]
  /** Reads from the beginning; undefined when it cannot be read. Valid until the next file is asked for. */
  readonly read: (bytesMax: number) => Promise<Buffer | undefined>
}

/** A file system that is mounted on the server. */
export interface MountedTree {
  readonly root: string
  /** Where the image has it, as `/home`; empty for the root. */
  readonly at: string
}

/** For each file system. */
export interface WalkLimits {
  readonly entriesMax: number
  readonly folderEntriesMax: number
  readonly depthMax: number
  readonly timeMsMax: number
}

export const WALK_LIMITS: WalkLimits = {
  entriesMax: ENTRIES_MAX,
  folderEntriesMax: FOLDER_ENTRIES_MAX,
  depthMax: DEPTH_MAX,
  timeMsMax: WALK_MS_MAX,
}

/** In no name of a sound file system; one that had it would be a path. */
const SLASH = 0x2f

interface Folder<Owner> {
  /** Below the root of the file system. */
  readonly names: readonly Buffer[]
  /** In the image, for people; empty for the root. */
  readonly path: string
  readonly trails: readonly Trail<Owner>[]
}

export class TreeWalk<Owner> {
  readonly #root: string
  readonly #limits: WalkLimits
  readonly #queue: Folder<Owner>[]
  #entries = 0
  #longFolders = 0
  #deepFolders = 0
  #unreadable = 0
  #isOutOfTime = false

  constructor(tree: MountedTree, trails: readonly Trail<Owner>[], limits: WalkLimits) {
    this.#root = tree.root
    this.#limits = limits
    this.#queue = [{ names: [], path: tree.at, trails: trailsBelow(trails, tree.at) }]
  }

  /** Can be called once. @throws the signal's reason; an error when the root cannot be opened */
  async *files(signal: AbortSignal): AsyncGenerator<WalkedFile<Owner>> {
    const { entriesMax, timeMsMax } = this.#limits
    const endMs = performance.now() + timeMsMax
    await using open = await OpenFolders.open(this.#root)
    // Grows while it is walked.
    for (const folder of this.#queue) {
      const handle = await this.#readable(() => open.moveTo(folder.names))
      if (handle === undefined) continue
      for await (const entry of this.#entriesOf(handle)) {
        signal.throwIfAborted()
        if (this.#entries >= entriesMax) return
        this.#entries += 1
        this.#isOutOfTime = performance.now() > endMs
        if (this.#isOutOfTime) return
        if (entry.name.includes(SLASH)) continue
        const { owners, trails } = step(folder.trails, entry.name.toString())
        if (entry.isDirectory()) this.#enqueue(folder, entry.name, trails)
        else if (owners.length > 0) yield* this.#file(handle, folder, { name: entry.name, owners })
      }
    }
  }

  /** What was left out, in sentences; for when the walk is over. */
  incomplete(): string[] {
    const { entriesMax, folderEntriesMax, depthMax } = this.#limits
    const cases: [boolean, string][] = [
      [
        this.#entries >= entriesMax,
        `Only the first ${entriesMax} files and folders were looked at`,
      ],
      [this.#isOutOfTime, 'The search took too long and was ended'],
      [
        this.#longFolders > 0,
        `Folders of which only the first ${folderEntriesMax} entries were looked at: ${this.#longFolders}`,
      ],
      [this.#deepFolders > 0, `Folders more than ${depthMax} deep were not looked at`],
      [this.#unreadable > 0, `Files and folders that could not be read: ${this.#unreadable}`],
    ]
    return cases.filter(([isSo]) => isSo).map(([, sentence]) => sentence)
  }

  #enqueue(folder: Folder<Owner>, name: Buffer, trails: Step<Owner>['trails']): void {
    if (trails.length === 0) return
    const names = [...folder.names, name]
    if (names.length > this.#limits.depthMax) this.#deepFolders += 1
    else this.#queue.push({ names, path: `${folder.path}/${name.toString()}`, trails })
  }

  async *#entriesOf(folder: FileHandle): AsyncGenerator<Dirent<Buffer>> {
    const listing = await this.#readable(() => list(folder))
    if (listing === undefined) return
    await using _ = listing
    for (let count = 0; ; count += 1) {
      const entry = await this.#readable(() => listing.read())
      // An end, or a folder that is damaged from here on.
      if (entry === undefined || entry === null) return
      if (count >= this.#limits.folderEntriesMax) {
        this.#longFolders += 1
        return
      }
      yield entry
    }
  }

  async *#file(
    handle: FileHandle,
    folder: Folder<Owner>,
    { name, owners }: { readonly name: Buffer; readonly owners: readonly Owner[] },
  ): AsyncGenerator<WalkedFile<Owner>> {
    // Looked at before it is opened: opening a device may do something.
    const status = await this.#readable(() => lstat(pathIn(handle, name)))
    if (status?.isFile() !== true) return
    yield {
      path: `${folder.path}/${name.toString()}`,
      sizeBytes: status.size,
      owners,
      read: (bytesMax) => this.#readable(() => readBeginning(handle, name, bytesMax)),
    }
  }

  /** A damaged file system says so file by file. */
  async #readable<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work()
    } catch (error) {
      if (!isSystemError(error)) throw error
      this.#unreadable += 1
      return undefined
    }
  }
}

/** The folders from the root down to where the walk is, all open; neighbors share those above them. */
class OpenFolders implements AsyncDisposable {
  readonly #root: FileHandle
  readonly #below: { readonly name: Buffer; readonly handle: FileHandle }[] = []

  private constructor(root: FileHandle) {
    this.#root = root
  }

  static async open(root: string): Promise<OpenFolders> {
    return new OpenFolders(await open(root, constants.O_RDONLY | constants.O_DIRECTORY))
  }

  /** The handle is valid until the next call. */
  async moveTo(names: readonly Buffer[]): Promise<FileHandle> {
    const shared = this.#below.findIndex(({ name }, at) => names[at]?.equals(name) !== true)
    await this.#closeFrom(shared < 0 ? Math.min(this.#below.length, names.length) : shared)
    for (const name of names.slice(this.#below.length)) {
      this.#below.push({ name, handle: await open(pathIn(this.#current, name), FOLDER_FLAGS) })
    }
    return this.#current
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closeFrom(0)
    await this.#root.close()
  }

  get #current(): FileHandle {
    return this.#below.at(-1)?.handle ?? this.#root
  }

  async #closeFrom(depth: number): Promise<void> {
    for (const { handle } of this.#below.splice(depth)) await handle.close()
  }
}

/** What openat(2) does: the path begins at the folder that is open, wherever that lies by now. */
function pathIn({ fd }: FileHandle, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name])
}

/** What `opendir` gives with names as bytes, which its types do not know. */
interface Listing extends AsyncDisposable {
  read(): Promise<Dirent<Buffer> | null>
}

async function list({ fd }: FileHandle): Promise<Listing> {
  const options = { encoding: 'buffer' as BufferEncoding }
  return (await opendir(`/proc/self/fd/${fd}`, options)) as unknown as Listing
}

async function readBeginning(
  folder: FileHandle,
  name: Buffer,
  bytesMax: number,
): Promise<Buffer | undefined> {
  await using file = await open(pathIn(folder, name), FILE_FLAGS)
  if (!(await file.stat()).isFile()) return undefined
  const buffer = Buffer.alloc(bytesMax)
  const { bytesRead } = await file.read(buffer, 0, bytesMax, 0)
  return buffer.subarray(0, bytesRead)
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'errno' in error
}
