/** What is on an image: its file systems, which can be mounted. */
import { BootwireError } from '#shared/errors.ts'
import { assertComplete, type FileSystem, fileSystemOf, probe } from './file-system.ts'
import { type ImagePart, nameOfPart, wholeImage } from './image-part.ts'
import { PHYSICAL_VOLUME_TYPE, readImageVolumes } from './lvm/image-volumes.ts'
import { MountedImage, type MountRequest } from './mounted-image.ts'
import { readPartitionTable } from './partition-table.ts'
import { readExtents, type SourceDeps, type SourceImage } from './source-image.ts'

export interface ContentMount {
  readonly fileSystem: FileSystem
  /** Mount options, comma-separated (`subvol=@`); empty for none. */
  readonly options: string
}

export class ImageContent implements AsyncDisposable {
  readonly image: SourceImage
  readonly fileSystems: readonly FileSystem[]
  /** What there is and cannot be read, a sentence each. */
  readonly obstacles: readonly string[]
  readonly #deps: SourceDeps
  readonly #joined = new Map<ImagePart, SourceImage>()
  readonly #opened = new AsyncDisposableStack()

  private constructor(image: SourceImage, found: FoundFileSystems, deps: SourceDeps) {
    this.image = image
    this.fileSystems = found.fileSystems
    this.obstacles = found.obstacles
    this.#deps = deps
  }

  /** @throws {BootwireError} IMAGE_TRUNCATED, IMAGE_NOT_BOOTABLE, TOOL_MISSING */
  static async inspect(image: SourceImage, deps: SourceDeps): Promise<ImageContent> {
    const found = await findFileSystems(image, deps.signal)
    for (const fileSystem of found.fileSystems) await assertComplete(image, fileSystem)
    return new ImageContent(image, found, deps)
  }

  /**
   * Mounts a file system read-only, with `usr` in its folder `/usr`; the caller ends it.
   * @throws {BootwireError} FILESYSTEM_UNREADABLE, STORE_FULL, TOOL_MISSING
   */
  async mount(root: ContentMount, usr?: ContentMount): Promise<MountedImage> {
    const request = async ({ fileSystem, options }: ContentMount): Promise<MountRequest> => {
      return { image: await this.#imageOf(fileSystem.part), fileSystem, options }
    }
    const requests = { root: await request(root), ...(usr && { usr: await request(usr) }) }
    return await MountedImage.mount(requests, this.#deps.signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync()
  }

  /** A volume in several pieces is put together in the spool: not every host can map it. */
  async #imageOf(part: ImagePart): Promise<SourceImage> {
    const { volume } = part
    if (volume === undefined || volume.pieces.length === 1) return this.image
    const known = this.#joined.get(part)
    if (known !== undefined) return known
    const { spool, report, signal } = this.#deps
    const name = `${nameOfPart(part)} of ${this.image.name}`
    const spooled = this.#opened.use(await spool.create())
    const onBytes = (doneBytes: number) =>
      report('putting a volume together', doneBytes, part.sizeBytes)
    const sizeBytes = await spool.write(
      spooled,
      readExtents(this.image, volume.pieces, signal),
      name,
      onBytes,
    )
    const joined = { path: spooled.path, name, sizeBytes, format: 'raw' }
    this.#joined.set(part, joined)
    return joined
  }
}

interface FoundFileSystems {
  readonly fileSystems: readonly FileSystem[]
  readonly obstacles: readonly string[]
}

async function findFileSystems(image: SourceImage, signal: AbortSignal): Promise<FoundFileSystems> {
  const found: FileSystem[] = []
  for (const part of await partsOf(image, signal)) {
    const fileSystem = fileSystemOf(part, await probe(image, part, signal))
    if (fileSystem !== undefined) found.push(fileSystem)
  }
  const members = found.filter(({ type }) => type === PHYSICAL_VOLUME_TYPE)
  const parts = members.map(({ part }) => part)
  const { volumes, obstacles } = await readImageVolumes(image, parts)
  for (const part of volumes) {
    const fileSystem = fileSystemOf(part, await probe(image, part, signal))
    if (fileSystem !== undefined) found.push(fileSystem)
  }
  return { fileSystems: found, obstacles }
}

async function partsOf(image: SourceImage, signal: AbortSignal): Promise<readonly ImagePart[]> {
  const whole = wholeImage(image)
  const { type, partitionTable } = await probe(image, whole, signal)
  if (type !== undefined) return [whole]
  if (partitionTable !== undefined) return await readPartitionTable(image, signal)
  throw new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${image.name}": it has neither a partition table nor a file system`,
  )
}
