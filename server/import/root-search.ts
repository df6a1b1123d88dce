/** Finds the root file system among what an image holds: the one with an installed Linux on it. */
import type { Log } from '#server/log.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import { assertComplete, type FileSystem, fileSystemOf, probe } from './file-system.ts'
import type { ImageTree } from './image-tree.ts'
import { MountedImage, nameOf, ROOT_TYPES } from './mounted-image.ts'
import { readPartitionTable, wholeImage } from './partition-table.ts'
import type { SourceImage } from './source-image.ts'

/** What is on an image, before anything is mounted. */
export interface ImageContent {
  readonly image: SourceImage
  readonly fileSystems: readonly FileSystem[]
}

export interface FoundRoot {
  readonly location: RootLocation
  readonly mounted: MountedImage
  /** PRETTY_NAME of its os-release. */
  readonly osName: string
}

interface RootCandidate {
  readonly fileSystem: FileSystem
  /** Mount options of the root: a subvolume of btrfs. */
  readonly options: string
}

/** Root subvolumes where the default subvolume is not it: Ubuntu, Debian, Fedora, openSUSE. */
const ROOT_SUBVOLUMES = ['@', '@rootfs', 'root', '@/.snapshots/1/snapshot']

const INIT_PATHS = [
  '/sbin/init',
  '/usr/sbin/init',
  '/usr/lib/systemd/systemd',
  '/etc/init',
  '/init',
]
const OS_RELEASE_PATHS = ['/etc/os-release', '/usr/lib/os-release']
const OS_RELEASE_BYTES_MAX: number = 64 * KiB

/** As the record of a version has it, and a menu can show. */
const OS_NAME_LENGTH_MAX = 100

/** @throws {BootwireError} IMAGE_TRUNCATED, IMAGE_NOT_BOOTABLE, TOOL_MISSING */
export async function inspectContent(
  image: SourceImage,
  signal: AbortSignal,
): Promise<ImageContent> {
  const whole = wholeImage(image)
  const { partitionTable, ...signature } = await probe(image, whole, signal)
  const only = fileSystemOf(whole, signature)
  if (only !== undefined) {
    return { image, fileSystems: await completeFileSystems(image, [only]) }
  }
  if (partitionTable === undefined) {
    throw new BootwireError(
      'IMAGE_NOT_BOOTABLE',
      `Cannot use "${image.name}": it has neither a partition table nor a file system`,
    )
  }
  const fileSystems: FileSystem[] = []
  for (const partition of await readPartitionTable(image, signal)) {
    const found = fileSystemOf(partition, await probe(image, partition, signal))
    if (found !== undefined) fileSystems.push(found)
  }
  return { image, fileSystems: await completeFileSystems(image, fileSystems) }
}

/**
 * Mounts the root file system; the caller closes it.
 * @throws {BootwireError} IMAGE_NOT_BOOTABLE, FILESYSTEM_UNREADABLE, INVALID_ARGUMENT
 */
export async function findRoot(
  content: ImageContent,
  rootPartition: number | undefined,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Log },
): Promise<FoundRoot> {
  const eligible = eligibleFileSystems(content, rootPartition)
  const failures: BootwireError[] = []
  for (const candidate of eligible.flatMap(candidatesOf)) {
    try {
      const root = await tryRoot(content.image, candidate, signal)
      if (root !== undefined) return root
    } catch (error) {
      // A partition that cannot be read may not be the one; another may. A missing subvolume is no failure.
      if (!(error instanceof BootwireError) || error.code !== 'FILESYSTEM_UNREADABLE') throw error
      log.debug({ err: error }, 'not the root')
      if (candidate.options === '') failures.push(error)
    }
  }
  throw failures[0] ?? noRoot(content, rootPartition)
}

function eligibleFileSystems(
  content: ImageContent,
  rootPartition: number | undefined,
): FileSystem[] {
  const eligible = content.fileSystems.filter(({ type }) => ROOT_TYPES.includes(type))
  if (rootPartition === undefined) return eligible.sort(byLikelihood)
  return eligible.filter(({ partition }) => partition.number === rootPartition)
}

/** GPT type "Linux root (x86-64)" of the Discoverable Partitions Specification says it outright. */
const ROOT_PARTITION_TYPE = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709'

function byLikelihood(a: FileSystem, b: FileSystem): number {
  const rank = ({ partition }: FileSystem) => (partition.type === ROOT_PARTITION_TYPE ? 0 : 1)
  return rank(a) - rank(b) || a.partition.number - b.partition.number
}

function candidatesOf(fileSystem: FileSystem): RootCandidate[] {
  const whole = { fileSystem, options: '' }
  if (fileSystem.type !== 'btrfs') return [whole]
  const subvolumes = ROOT_SUBVOLUMES.map((name) => ({ fileSystem, options: `subvol=${name}` }))
  return [whole, ...subvolumes]
}

async function tryRoot(
  image: SourceImage,
  { fileSystem, options }: RootCandidate,
  signal: AbortSignal,
): Promise<FoundRoot | undefined> {
  await using stack = new AsyncDisposableStack()
  const mounted = stack.use(await MountedImage.mount({ image, fileSystem, options }, signal))
  const osName = await nameOfSystem(mounted.tree)
  if (osName === undefined) return undefined
  const { partition, type } = fileSystem
  stack.move()
  return { location: { partition: partition.number, fsType: type, options }, mounted, osName }
}

/** Returns undefined when this is not the root of an installed system. */
async function nameOfSystem(tree: ImageTree): Promise<string | undefined> {
  if (!(await hasAny(tree, INIT_PATHS))) return undefined
  for (const path of OS_RELEASE_PATHS) {
    const text = await tree.text(path, OS_RELEASE_BYTES_MAX)
    if (text !== undefined) return prettyName(text)
  }
  return undefined
}

async function hasAny(tree: ImageTree, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) if (await tree.file(path)) return true
  return false
}

/** os-release(5): a shell assignment, mostly in double quotes. */
function prettyName(osRelease: string): string {
  const value = /^PRETTY_NAME=(["']?)(.*)\1\s*$/m.exec(osRelease)?.[2] ?? ''
  const printable = value.replace(/[^\x20-\x7e]/g, '?').trim()
  return printable.slice(0, OS_NAME_LENGTH_MAX) || 'Linux'
}

async function completeFileSystems(
  image: SourceImage,
  fileSystems: readonly FileSystem[],
): Promise<readonly FileSystem[]> {
  for (const fileSystem of fileSystems) await assertComplete(image, fileSystem)
  return fileSystems
}

function noRoot(
  { image, fileSystems }: ImageContent,
  rootPartition: number | undefined,
): BootwireError {
  const found = fileSystems.map((it) => `${it.type} on ${nameOf(it)}`).join(', ') || 'nothing'
  const where = rootPartition === undefined ? '' : ` on partition ${rootPartition}`
  return new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${image.name}": there is no Linux system${where} (an ext4, xfs or btrfs file system with etc/os-release and an init); found: ${found}`,
  )
}
