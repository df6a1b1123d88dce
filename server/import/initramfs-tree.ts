/**
 * A folder tree on its way into an initramfs archive: modules and firmware copied out of an image,
 * unpacked, indexed, and packed.
 */
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runTool, type ToolName } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import type { ImageTree } from './image-tree.ts'

/** The largest driver of Debian's kernels has 10 MiB, the largest firmware of a card 40. */
const FILE_BYTES_MAX: number = 64 * MiB

/** Paths come from the image's own lists and become paths of the server: no tricks. */
const PLAIN_PATH = /^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9_+,.@-]+(?:\/[A-Za-z0-9_+,.@-]+)*$/

const UNPACKERS: Readonly<Record<string, { readonly tool: ToolName; readonly args: string[] }>> = {
  '.xz': { tool: 'xz', args: ['--decompress', '--quiet'] },
  '.zst': { tool: 'zstd', args: ['--decompress', '--quiet', '--rm'] },
  '.gz': { tool: 'gzip', args: ['--decompress', '--quiet'] },
}

/** Arguments of one run of a tool: well below what a command line may hold. */
const FILES_PER_RUN = 500

const PACK_SCRIPT = fileURLToPath(new URL('./pack-archive.sh', import.meta.url))

export function isPlainPath(path: string): boolean {
  return PLAIN_PATH.test(path)
}

export class InitramfsTree {
  readonly #folder: string
  readonly #signal: AbortSignal
  /** Paths below the folder that the next archive gets. */
  readonly #files = new Set<string>()

  constructor(folder: string, signal: AbortSignal) {
    this.#folder = folder
    this.#signal = signal
  }

  pathOf(file: string): string {
    return join(this.#folder, file)
  }

  /** Copies a file to the same or another place in the tree. Returns false when the image lacks it. */
  async add(image: ImageTree, source: string, target: string): Promise<boolean> {
    this.#signal.throwIfAborted()
    if (!isPlainPath(target)) {
      throw new BootwireError('IMAGE_NOT_BOOTABLE', `Cannot use the file name "${target}"`)
    }
    await mkdir(dirname(this.pathOf(target)), { recursive: true })
    if (!(await image.copyOut(source, this.pathOf(target), FILE_BYTES_MAX))) return false
    this.#files.add(target)
    return true
  }

  /** Has files the tree got by other means go into the archive. */
  include(files: readonly string[]): void {
    for (const file of files) this.#files.add(file)
  }

  /** Unpacks what is compressed, in place: nothing in the initramfs can, and the archive is anyway. */
  async unpack(): Promise<void> {
    for (const [suffix, { tool, args }] of Object.entries(UNPACKERS)) {
      const packed = [...this.#files].filter((file) => file.endsWith(suffix))
      for (let at = 0; at < packed.length; at += FILES_PER_RUN) {
        const files = packed.slice(at, at + FILES_PER_RUN)
        await runTool(tool, [...args, ...files], { signal: this.#signal, cwd: this.#folder })
      }
      for (const file of packed) {
        this.#files.delete(file)
        this.#files.add(file.slice(0, -suffix.length))
      }
    }
  }

  /** Files of the next archive that end so. */
  files(suffix: string): string[] {
    return [...this.#files].filter((file) => file.endsWith(suffix)).sort()
  }

  /** Writes the archive of all files since the last one. */
  async pack(archive: string): Promise<void> {
    const paths = withFolders(this.#files)
    this.#files.clear()
    await mkdir(this.#folder, { recursive: true })
    const input = paths.map((path) => `${path}\n`).join('')
    await runTool('sh', [PACK_SCRIPT, this.#folder, archive], { signal: this.#signal, input })
  }
}

/** Every folder of a path before what is in it. */
function withFolders(files: ReadonlySet<string>): string[] {
  const paths = new Set(files)
  for (const file of files) {
    for (let folder = dirname(file); folder !== '.'; folder = dirname(folder)) paths.add(folder)
  }
  return [...paths].sort()
}
