/**
 * A file system of an image, and another in its `/usr`, mounted read-only in a mount namespace of a child process. The server
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
import { USR_FOLDER } from './fstab.ts'
import { nameOfPart } from './image-part.ts'
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
  /** Where the bytes lie: the image, or the spool file that a volume in pieces was put together in. */
  readonly image: SourceImage
  readonly fileSystem: FileSystem
  /** Mount options, comma-separated (`subvol=@`); empty for none. */
  readonly options: string
}

export interface MountRequests {
  readonly root: MountRequest
  /** Mounted in the root's `/usr`. */
  readonly usr?: MountRequest
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
  static async mount(
    requests: MountRequests,
    signal: AbortSignal,
    methods: readonly MountMethod[] = MOUNT_METHODS,
  ): Promise<MountedImage> {
    const failures: string[] = []
    for (const method of methods) {
      const mounted = await tryMount(requests, method, signal)
      if (mounted instanceof MountedImage) return mounted
      failures.push(`${method}: ${mounted}`)
    }
    const { image, fileSystem } = requests.root
    const beside =
      requests.usr === undefined
        ? ''
        : ` with /usr from ${nameOfPart(requests.usr.fileSystem.part)}`
    throw new BootwireError(
      'FILESYSTEM_UNREADABLE',
      `Cannot read the ${fileSystem.type} file system on ${nameOfPart(fileSystem.part)}${beside} of "${image.name}": ${failures.join('; ')}`,
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

/** Returns why it did not work when it did not. */
async function tryMount(
  requests: MountRequests,
  method: MountMethod,
  signal: AbortSignal,
): Promise<MountedImage | string> {
  const child = startTool('unshare', mountCommand(requests, method))
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

function mountCommand({ root, usr }: MountRequests, method: MountMethod): string[] {
  const images = [...new Set([root, ...(usr ? [usr] : [])].map(({ image }) => image.path))]
  const mountArguments = (request: MountRequest, folder: string) => {
    const { image, fileSystem, options } = request
    const { type, part } = fileSystem
    const typeOptions = OPTIONS_BY_TYPE[type]
    invariant(typeOptions !== undefined, `${type} is not a type that is mounted`)
    const allOptions = options === '' ? typeOptions : `${typeOptions},${options}`
    const isJoined = (part.volume?.pieces.length ?? 1) > 1
    const place = isJoined ? [0, part.sizeBytes] : [part.offsetBytes, part.sizeBytes]
    const device = applianceDevice(request, images.indexOf(image.path), isJoined)
    return [folder, image.path, type, allOptions, ...place.map(String), device]
  }
  return [
    ...NAMESPACES,
    'sh',
    SCRIPT,
    method,
    ...mountArguments(root, MOUNT_POINT),
    ...(usr ? mountArguments(usr, `${MOUNT_POINT}${USR_FOLDER}`) : []),
  ]
}

/** What libguestfs calls it, which gives its disks letters in their order. */
function applianceDevice(
  { fileSystem: { part } }: MountRequest,
  index: number,
  isJoined: boolean,
): string {
  const disk = `/dev/sd${'ab'.charAt(index)}`
  if (isJoined) return disk
  return part.volume?.devices[0] ?? (part.partition === 0 ? disk : `${disk}${part.partition}`)
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: stream })
  return await new Promise((resolve) => {
    lines.once('line', resolve)
  })
}
