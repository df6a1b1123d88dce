/**
 * A file system of an image, mounted read-only in a mount namespace of a child process. The server
 * reaches it through /proc/PID/root and never has it in its own tree; it is gone with the child, and
 * the child with its standard input, which ends when the server does.
 */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { exitOf, lastLines, startTool } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import type { FileSystem } from './file-system.ts'
import { ImageTree } from './image-tree.ts'
import type { SourceImage } from './source-image.ts'

/** File systems an installed Linux has its root on; others only hold kernels. */
export const ROOT_TYPES: readonly string[] = ['ext4', 'xfs', 'btrfs', 'ext3', 'ext2']

/** Nothing is written, so a journal that needs replaying must not stop the mount. */
const OPTIONS_BY_TYPE: Readonly<Record<string, string>> = {
  ext2: '',
  ext3: ',noload',
  ext4: ',noload',
  xfs: ',norecovery,nouuid',
  btrfs: ',rescue=nologreplay',
  vfat: '',
}

/** The virtual machine of libguestfs boots in 5 s, without hardware support in a minute. */
const MOUNT_TIMEOUT_MS = 3 * 60_000

const SCRIPT = fileURLToPath(new URL('./mount-image.sh', import.meta.url))
const MOUNT_POINT = '/mnt'
const MOUNTED_LINE = 'mounted'

/** Not root: may mount (by libguestfs) in a user namespace where it is. */
const USER_NAMESPACE = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']
const NAMESPACES = [
  ...USER_NAMESPACE,
  '--mount',
  '--propagation',
  'private',
  '--pid',
  '--fork',
  '--kill-child',
]

export const MOUNT_METHODS = ['kernel', 'libguestfs'] as const
export type MountMethod = (typeof MOUNT_METHODS)[number]

export interface MountRequest {
  readonly image: SourceImage
  readonly fileSystem: FileSystem
  /** Mount options, comma-separated (`subvol=@`); empty for none. */
  readonly options: string
  /** Tried in this order. */
  readonly methods?: readonly MountMethod[]
}

export function isReadable(type: string): boolean {
  return Object.hasOwn(OPTIONS_BY_TYPE, type)
}

export class MountedImage implements AsyncDisposable {
  readonly tree: ImageTree
  readonly #child: ChildProcess
  readonly #exit: Promise<number>

  private constructor(child: ChildProcess, exit: Promise<number>) {
    this.#child = child
    this.#exit = exit
    this.tree = new ImageTree(`/proc/${child.pid}/root${MOUNT_POINT}`)
  }

  /** @throws {BootwireError} FILESYSTEM_UNREADABLE with what each method said, TOOL_MISSING */
  static async mount(request: MountRequest, signal: AbortSignal): Promise<MountedImage> {
    const failures: string[] = []
    for (const method of request.methods ?? MOUNT_METHODS) {
      const mounted = await tryMount(request, method, signal)
      if (mounted instanceof MountedImage) return mounted
      failures.push(`${method}: ${mounted}`)
    }
    const { image, fileSystem } = request
    throw new BootwireError(
      'FILESYSTEM_UNREADABLE',
      `Cannot read the ${fileSystem.type} file system on ${nameOf(fileSystem)} of "${image.name}": ${failures.join('; ')}`,
    )
  }

  static of(child: ChildProcess, exit: Promise<number>): MountedImage {
    return new MountedImage(child, exit)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end()
    await this.#exit
  }
}

export function nameOf({ partition }: FileSystem): string {
  return partition.number === 0 ? 'the whole' : `partition ${partition.number}`
}

/** Returns why it did not work when it did not. */
async function tryMount(
  request: MountRequest,
  method: MountMethod,
  signal: AbortSignal,
): Promise<MountedImage | string> {
  const child = startTool('unshare', mountCommand(request, method))
  const { stdout, stderr } = child
  invariant(stdout !== null && stderr !== null, 'the streams are pipes')
  const exit = exitOf('unshare', child)
  const said = text(stderr)
  const giveUp = AbortSignal.any([signal, AbortSignal.timeout(MOUNT_TIMEOUT_MS)])
  const kill = () => child.kill('SIGKILL')
  giveUp.addEventListener('abort', kill)
  try {
    const outcome = await Promise.race([firstLine(stdout), exit])
    if (outcome === MOUNTED_LINE) return MountedImage.of(child, exit)
    await exit
    signal.throwIfAborted()
    return giveUp.aborted ? `no answer in ${MOUNT_TIMEOUT_MS / 1000} s` : lastLines(await said)
  } finally {
    giveUp.removeEventListener('abort', kill)
  }
}

function mountCommand({ image, fileSystem, options }: MountRequest, method: MountMethod): string[] {
  const { type, partition } = fileSystem
  const typeOptions = OPTIONS_BY_TYPE[type]
  invariant(typeOptions !== undefined, `${type} is not a type that is mounted`)
  const allOptions = options === '' ? typeOptions : `${typeOptions},${options}`
  const numbers = [partition.offsetBytes, partition.sizeBytes, partition.number].map(String)
  return [...NAMESPACES, 'sh', SCRIPT, method, image.path, type, allOptions, ...numbers]
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: stream })
  return await new Promise((resolve) => {
    lines.once('line', resolve)
  })
}
