/**
 * Looks into an image for what its machines should not share: one that is being imported, one that may
 * be, or one that is stored. The latter is unpacked into the spool for it, which costs as much reading as
 * an export; so what an import found is kept (vdisks/lint-reports.ts), and this is for versions without.
 */
import { ImageLint, isSearched } from '#server/lint/image-lint.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import type { Log } from '#server/log.ts'
import type { ContentPiece } from '#server/store/versions/version-content.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import { type FstabEntry, fileSystemNamed, subvolumeOption, USR_FOLDER } from './fstab.ts'
import { type ContentMount, ImageContent } from './image-content.ts'
import { type ImagePart, nameOfPart } from './image-part.ts'
import { isReadable, ROOT_TYPES } from './mounted-image.ts'
import { type FoundRoot, findRoot, readFstab } from './root-search.ts'
import { type ImageSource, openImage, type SourceDeps, type SourceImage } from './source-image.ts'

/** An image that is no vDisk yet, or the content of a version. */
export type LintSource =
  | (ImageSource & {
      /** Number of the partition with the root; found when it is not told. */
      readonly rootPartition?: number
    })
  | StoredImage

export interface StoredImage {
  readonly content: AsyncIterable<ContentPiece>
  readonly sizeBytes: number
  /** What people call it. */
  readonly name: string
  readonly root: RootLocation
}

export interface LintDeps extends SourceDeps {
  readonly log: Log
}

/**
 * @throws {BootwireError} as an import does before it stores; CHUNK_CORRUPT, MANIFEST_INVALID of what is
 *   stored
 */
export async function lintImage(source: LintSource, deps: LintDeps): Promise<LintReport> {
  const { report } = deps
  await using opened = new AsyncDisposableStack()
  const image =
    'content' in source
      ? await unpackStored(source, deps, opened)
      : await openImage(source, deps, opened)
  report('looking what is on the image', 0, 0)
  const content = opened.use(await ImageContent.inspect(image, deps))
  const partition = 'content' in source ? source.root.partition : source.rootPartition
  const root = await findRoot(content, partition, deps.log)
  await using _ = root.mounted
  report(LINT_STAGE, 0, 0)
  return await lintRoot(content, root, deps)
}

/** More than an image has file systems; mounting one takes a tenth of a second. */
const MOUNTS_MAX = 16

/** What people keep files on, also where it cannot be read here. */
const MAY_HOLD_FILES = new Set([...ROOT_TYPES, 'crypto_LUKS', 'zfs_member'])

export const LINT_STAGE = 'looking for secrets'

/**
 * Looks into a root that is mounted, then into what its fstab mounts where something may be found. Ends
 * the mount of the root: the kernel mounts a btrfs, which may have the homes in another subvolume, by one
 * loop device at a time.
 */
export async function lintRoot(
  content: ImageContent,
  { mounted, location, mountedParts }: FoundRoot,
  deps: Pick<LintDeps, 'log' | 'signal'>,
): Promise<LintReport> {
  const lint = new ImageLint()
  await lint.search({ root: mounted.tree.root, at: '' }, deps.signal)
  const fstab = await readFstab(mounted.tree, deps.log)
  await mounted[Symbol.asyncDispose]()
  const searched = new Set(mountedParts)
  for (const mount of mountsIn(fstab, content)) {
    if (mount.folder === USR_FOLDER && location.usr !== undefined) continue
    if (await searchOther(lint, content, mount, deps)) searched.add(mount.fileSystem.part)
  }
  return lint.report(notSearched(content, searched))
}

interface OtherMount extends ContentMount {
  /** Where the image has it. */
  readonly folder: string
}

function mountsIn(fstab: readonly FstabEntry[], { fileSystems }: ImageContent): OtherMount[] {
  const mounts = fstab.flatMap(({ device, folder, options }) => {
    const fileSystem = fileSystemNamed(device, fileSystems)
    const isWanted = folder !== '' && isSearched(folder)
    if (fileSystem === undefined || !isWanted || !isReadable(fileSystem.type)) return []
    return [{ fileSystem, folder, options: subvolumeOption(options) }]
  })
  return mounts.slice(0, MOUNTS_MAX)
}

/** Returns false when it cannot be mounted. */
async function searchOther(
  lint: ImageLint,
  content: ImageContent,
  mount: OtherMount,
  { log, signal }: Pick<LintDeps, 'log' | 'signal'>,
): Promise<boolean> {
  try {
    await using mounted = await content.mount(mount)
    await lint.search({ root: mounted.tree.root, at: mount.folder }, signal)
    return true
  } catch (error) {
    if (!(error instanceof BootwireError) || error.code !== 'FILESYSTEM_UNREADABLE') throw error
    log.debug({ err: error }, 'not looked into')
    return false
  }
}

/** What is locked, or named in fstab as only its machine knows it. */
function notSearched(
  { fileSystems, obstacles }: ImageContent,
  searched: ReadonlySet<ImagePart>,
): string[] {
  const others = fileSystems.filter(
    ({ type, part }) => MAY_HOLD_FILES.has(type) && !searched.has(part),
  )
  const names = [...others.map(({ type, part }) => `${nameOfPart(part)} (${type})`), ...obstacles]
  if (names.length === 0) return []
  return [`Not looked into: ${names.join(', ')}`]
}

async function unpackStored(
  { content, sizeBytes, name }: StoredImage,
  { spool, report, signal }: SourceDeps,
  stack: AsyncDisposableStack,
): Promise<SourceImage> {
  const spooled = stack.use(await spool.create())
  const onBytes = (doneBytes: number) => report('unpacking', doneBytes, sizeBytes)
  await spool.write(spooled, bytesOf(content, signal), name, onBytes)
  return { path: spooled.path, name, sizeBytes, format: 'raw' }
}

const ZEROS = new Uint8Array(MiB)

async function* bytesOf(
  content: AsyncIterable<ContentPiece>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const { bytes, lengthBytes } of content) {
    signal.throwIfAborted()
    if (bytes !== undefined) yield bytes
    else for (let left = lengthBytes; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, left)
  }
}
