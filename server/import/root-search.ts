/** Finds the root file system among what an image holds: the one with an installed Linux on it. */
import type { Log } from '#server/log.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'
import type { FileSystemLocation, RootLocation } from '#shared/wire/messages.ts'
import type { FileSystem } from './file-system.ts'
import {
  type FstabEntry,
  fileSystemNamed,
  parseFstab,
  subvolumeOption,
  USR_FOLDER,
} from './fstab.ts'
import type { ContentMount, ImageContent } from './image-content.ts'
import { type ImagePart, nameOfPart } from './image-part.ts'
import type { ImageTree } from './image-tree.ts'
import { type MountedImage, ROOT_TYPES } from './mounted-image.ts'

export interface FoundRoot {
  readonly location: RootLocation
  /** With its `/usr`, when that lies apart. */
  readonly mounted: MountedImage
  /** The parts that are mounted so. */
  readonly mountedParts: ReadonlySet<ImagePart>
  /** PRETTY_NAME of its os-release. */
  readonly osName: string
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
const FSTAB = '/etc/fstab'
const FSTAB_BYTES_MAX: number = 64 * KiB
const OS_RELEASE_PATHS = ['/etc/os-release', '/usr/lib/os-release']
const OS_RELEASE_BYTES_MAX: number = 64 * KiB

/** As the record of a version has it, and a menu can show. */
const OS_NAME_LENGTH_MAX = 100

/**
 * Mounts the root file system; the caller closes it.
 * @throws {BootwireError} IMAGE_NOT_BOOTABLE, FILESYSTEM_UNREADABLE, INVALID_ARGUMENT
 */
export async function findRoot(
  content: ImageContent,
  rootPartition: number | undefined,
  log: Log,
): Promise<FoundRoot> {
  const eligible = eligibleFileSystems(content, rootPartition)
  const failures: BootwireError[] = []
  for (const candidate of eligible.flatMap(candidatesOf)) {
    try {
      const root = await tryRoot(content, candidate, log)
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
  return eligible.filter(({ part }) => part.partition === rootPartition)
}

/** GPT type "Linux root (x86-64)" of the Discoverable Partitions Specification says it outright. */
const ROOT_PARTITION_TYPE = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709'

function byLikelihood(a: FileSystem, b: FileSystem): number {
  const rank = ({ part }: FileSystem) => (part.type === ROOT_PARTITION_TYPE ? 0 : 1)
  return rank(a) - rank(b) || a.part.partition - b.part.partition
}

function candidatesOf(fileSystem: FileSystem): ContentMount[] {
  const whole = { fileSystem, options: '' }
  if (fileSystem.type !== 'btrfs') return [whole]
  const subvolumes = ROOT_SUBVOLUMES.map((name) => ({ fileSystem, options: `subvol=${name}` }))
  return [whole, ...subvolumes]
}

async function tryRoot(
  content: ImageContent,
  root: ContentMount,
  log: Log,
): Promise<FoundRoot | undefined> {
  await using stack = new AsyncDisposableStack()
  const alone = stack.use(await content.mount(root))
  const usr = usrOf(await readFstab(alone.tree, log), content)
  if (usr !== undefined) await alone[Symbol.asyncDispose]()
  const mounted = usr === undefined ? alone : stack.use(await content.mount(root, usr))
  const osName = await nameOfSystem(mounted.tree)
  if (osName === undefined) return undefined
  stack.move()
  const location = { ...locationOf(root), ...(usr && { usr: locationOf(usr) }) }
  const mountedParts = new Set(
    [root, ...(usr ? [usr] : [])].map(({ fileSystem }) => fileSystem.part),
  )
  return { location, mounted, mountedParts, osName }
}

/** What a system mounts beside its root. One that is damaged or absurdly long counts as none. */
export async function readFstab(tree: ImageTree, log: Log): Promise<FstabEntry[]> {
  try {
    return parseFstab((await tree.text(FSTAB, FSTAB_BYTES_MAX)) ?? '')
  } catch (error) {
    log.debug({ err: error }, 'fstab of the image not read')
    return []
  }
}

/** Returns undefined when it is in the root, or not on the image. */
function usrOf(
  fstab: readonly FstabEntry[],
  { fileSystems }: ImageContent,
): ContentMount | undefined {
  const entry = fstab.find(({ folder }) => folder === USR_FOLDER)
  const fileSystem = entry && fileSystemNamed(entry.device, fileSystems)
  if (fileSystem === undefined || !ROOT_TYPES.includes(fileSystem.type)) return undefined
  return { fileSystem, options: subvolumeOption(entry?.options ?? '') }
}

function locationOf({ fileSystem: { part, type }, options }: ContentMount): FileSystemLocation {
  const { partition, volume } = part
  return { partition, fsType: type, options, ...(volume && { volume: volume.location }) }
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

function noRoot(
  { image, fileSystems, obstacles }: ImageContent,
  rootPartition: number | undefined,
): BootwireError {
  const all = fileSystems.map(({ type, part }) => `${type} on ${nameOfPart(part)}`)
  const found = [...all, ...obstacles].join(', ') || 'nothing'
  const where = rootPartition === undefined ? '' : ` on partition ${rootPartition}`
  return new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${image.name}": there is no Linux system${where} (an ext4, xfs or btrfs file system with etc/os-release and an init); found: ${found}`,
  )
}
