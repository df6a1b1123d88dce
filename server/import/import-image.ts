/**
 * Imports a disk image as a version: looks what is on it, takes its kernel out, and copies it into
 * the chunk store. Nothing is left behind when it fails; what it stored before a failure of the
 * caller goes with the caller's next sweep.
 */
import type { BootFiles } from '#server/boot/boot-files.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import type { Log } from '#server/log.ts'
import type { KernelRecord } from '#server/state/records.ts'
import type { ChunkStore, CommittedVersion } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import type { RootLocation } from '#shared/wire/messages.ts'
import { DEVICE_MAPPER_MODULE } from './boot-drivers.ts'
import { ImageContent } from './image-content.ts'
import type { ImageTree } from './image-tree.ts'
import { buildKernelFiles } from './kernel-files.ts'
import { findKernel } from './kernel-search.ts'
import { LINT_STAGE, lintRoot } from './lint-image.ts'
import { isReadable } from './mounted-image.ts'
import { type FoundRoot, findRoot } from './root-search.ts'
import {
  dataBytesOf,
  type ImageSource,
  openImage,
  readSource,
  type SourceImage,
} from './source-image.ts'
import { isZero, type Spool } from './spool.ts'

export type ImportRequest = ImageSource & {
  /** Number of the partition with the root; found when it is not told. */
  readonly rootPartition?: number
}

export interface ImportDeps {
  readonly store: ChunkStore
  readonly bootFiles: BootFiles
  readonly spool: Spool
  readonly log: Log
}

export interface ImportProgress {
  /** What is being done, for a person. */
  readonly stage: string
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface ImportedImage {
  readonly committed: CommittedVersion
  /** How the image was read: raw, qcow2, … */
  readonly format: string
  readonly root: RootLocation
  readonly osName: string
  /** Absent when the image brings none. */
  readonly kernel?: KernelRecord
  /** Sentences a person should read. */
  readonly warnings: string[]
  /** What its machines should not share; absent when that could not be found out. */
  readonly lint?: LintReport
}

/**
 * @throws {BootwireError} IMAGE_MISSING, IMAGE_EMPTY, IMAGE_TRUNCATED, IMAGE_NOT_BOOTABLE,
 *   FILESYSTEM_UNREADABLE, KERNEL_UNUSABLE, STORE_FULL, TOOL_MISSING, TOOL_FAILED, PERMISSION_DENIED
 */
export async function importImage(
  request: ImportRequest,
  deps: ImportDeps,
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal,
): Promise<ImportedImage> {
  const warnings: string[] = []
  await using opened = new AsyncDisposableStack()
  const report = (stage: string, doneBytes = 0, totalBytes = 0) =>
    onProgress({ stage, doneBytes, totalBytes })
  const sourceDeps = { spool: deps.spool, report, signal }
  const image = await openImage(request, sourceDeps, opened)
  report('looking what is on the image')
  const content = opened.use(await ImageContent.inspect(image, sourceDeps))
  const root = await findRoot(content, request.rootPartition, deps.log)
  await using mounted = root.mounted
  report('taking out kernel and drivers')
  const kernel = await takeKernel(content, root, deps, { warnings, signal })
  report(LINT_STAGE)
  const lint = await tryLint(content, root, deps, { warnings, signal })
  await mounted[Symbol.asyncDispose]()
  const committed = await store(image, deps.store, report, signal)
  const { mendedChunks } = committed
  if (mendedChunks > 0) {
    warnings.push(`The store held ${mendedChunks} of its chunks damaged; they were stored anew`)
  }
  return {
    committed,
    format: image.format,
    root: root.location,
    osName: root.osName,
    ...(kernel !== undefined && { kernel }),
    warnings,
    ...(lint !== undefined && { lint }),
  }
}

/** No import fails because of it. */
async function tryLint(
  content: ImageContent,
  root: FoundRoot,
  { log }: ImportDeps,
  { warnings, signal }: { readonly warnings: string[]; readonly signal: AbortSignal },
): Promise<LintReport | undefined> {
  try {
    return await lintRoot(content, root, { log, signal })
  } catch (error) {
    signal.throwIfAborted()
    log.error({ err: error }, 'cannot look for secrets in the image')
    warnings.push('The image could not be searched for secrets; the log of the server says why')
    return undefined
  }
}

async function takeKernel(
  content: ImageContent,
  root: FoundRoot,
  { bootFiles, log }: ImportDeps,
  { warnings, signal }: { readonly warnings: string[]; readonly signal: AbortSignal },
): Promise<KernelRecord | undefined> {
  await using stack = new AsyncDisposableStack()
  const kernel = await findKernel(
    {
      root: root.mounted.tree,
      openOthers: () => mountOthers(content, root, { stack, log }),
      drivers: driversOf(root.location),
    },
    warnings,
  )
  if (kernel === undefined) {
    warnings.push(
      'The image has no kernel with modules: its clients run on the default boot kernel, the one of the oldest vDisk that has one',
    )
    return undefined
  }
  const id = await bootFiles.add((folder) =>
    buildKernelFiles(kernel, root.mounted.tree, folder, signal),
  )
  log.info({ kernel: kernel.release, id }, 'kernel taken out of the image')
  return { id, release: kernel.release }
}

/** What the kernel needs to mount the system. */
function driversOf({ usr, ...root }: RootLocation): string[] {
  const all = usr === undefined ? [root] : [root, usr]
  const types = all.map(({ fsType }) => fsType)
  const mapper = all.some(({ volume }) => volume !== undefined) ? [DEVICE_MAPPER_MODULE] : []
  return [...new Set([...types, ...mapper])]
}

/** Mounts the other file systems, one of which may be the system's /boot. */
async function mountOthers(
  content: ImageContent,
  { mountedParts }: FoundRoot,
  parts: {
    readonly stack: AsyncDisposableStack
    readonly log: Log
  },
): Promise<ImageTree[]> {
  const others = content.fileSystems.filter(
    ({ part, type }) => !mountedParts.has(part) && isReadable(type),
  )
  const trees: ImageTree[] = []
  for (const fileSystem of others) {
    try {
      trees.push(parts.stack.use(await content.mount({ fileSystem, options: '' })).tree)
    } catch (error) {
      if (!(error instanceof BootwireError) || error.code !== 'FILESYSTEM_UNREADABLE') throw error
      parts.log.debug({ err: error }, 'not looked into')
    }
  }
  return trees
}

async function store(
  image: SourceImage,
  chunkStore: ChunkStore,
  report: (stage: string, doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<CommittedVersion> {
  const totalBytes = await dataBytesOf(image, signal)
  const writer = await chunkStore.createVersion()
  try {
    let doneBytes = 0
    for await (const { bytes, lengthBytes } of readSource(image, signal)) {
      // A quick look saves empty space of devices from being cut and hashed.
      if (bytes === undefined || isZero(bytes)) await writer.appendZeros(lengthBytes)
      else await writer.append(bytes)
      if (bytes !== undefined) doneBytes += lengthBytes
      report('storing', doneBytes, totalBytes)
    }
    return await writer.commit()
  } finally {
    await writer.abort()
  }
}
