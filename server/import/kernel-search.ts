/** Finds the kernel an image boots with: the newest that has its modules and what streaming needs. */
import { open } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { NBD_MODULE } from './boot-drivers.ts'
import type { ImageTree } from './image-tree.ts'
import { compareReleases } from './kernel-release.ts'
import { ModuleIndex } from './module-index.ts'

export interface FoundKernel {
  readonly release: string
  /** Where the kernel image lies. */
  readonly tree: ImageTree
  readonly path: string
  readonly modules: ModuleIndex
}

export interface KernelSearch {
  /** Of the root file system: modules, and mostly the kernel. */
  readonly root: ImageTree
  /** Opens the other file systems, one of which may be the system's /boot; asked only when needed. */
  readonly openOthers: () => Promise<readonly ImageTree[]>
  /** Modules without which the system cannot be mounted. */
  readonly drivers: readonly string[]
}

interface Candidate {
  readonly release: string
  readonly tree: ImageTree
  readonly path: string
  readonly configPath: string
}

/** modules.alias of a distribution's kernel has 1.5 MB. */
const TEXT_BYTES_MAX: number = 32 * MiB

const RELEASE = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/
const KERNEL_FILE = /^vmlinuz-(.+)$/

/** x86 boot protocol, Documentation/arch/x86/boot.rst: "HdrS" at 0x202 in every kernel since 2.0. */
const MAGIC_OFFSET = 0x202
const MAGIC = 'HdrS'

/** What the kernel must have been built with, by name in its configuration. */
const NEEDED_OPTIONS = ['BLK_DEV_INITRD', 'RD_ZSTD', 'DEVTMPFS', 'PRINTK']

/**
 * Returns undefined when there is no kernel with modules at all. Newer kernels that cannot be used
 * are told in `warnings`.
 * @throws {BootwireError} KERNEL_UNUSABLE when there are some and none can be used
 */
export async function findKernel(
  search: KernelSearch,
  warnings: string[],
): Promise<FoundKernel | undefined> {
  const refusals: string[] = []
  for (const candidate of await listCandidates(search)) {
    const modules = await readModuleIndex(search.root, candidate.release)
    if (modules === undefined) continue
    const reason = await whyUnusable(candidate, modules, search.drivers)
    if (reason === undefined) {
      warnings.push(...refusals)
      return { ...candidate, modules }
    }
    refusals.push(`Kernel ${candidate.release} is not used: ${reason}`)
  }
  if (refusals.length === 0) return undefined
  throw new BootwireError('KERNEL_UNUSABLE', `Cannot boot this image: ${refusals.join('; ')}`)
}

/** The folder of a release's modules. */
export function modulesFolder(release: string): string {
  return `/lib/modules/${release}`
}

/** Newest first. Mounting costs seconds where libguestfs does it, so the root is looked at first. */
async function listCandidates({ root, openOthers }: KernelSearch): Promise<Candidate[]> {
  const inRoot = [...(await candidatesIn(root, '/boot')), ...(await candidatesBesideModules(root))]
  const candidates = inRoot.length > 0 ? inRoot : await candidatesInOthers(await openOthers())
  return candidates
    .filter(({ release }) => RELEASE.test(release))
    .sort((a, b) => compareReleases(b.release, a.release))
}

async function candidatesInOthers(trees: readonly ImageTree[]): Promise<Candidate[]> {
  return (await Promise.all(trees.map((tree) => candidatesIn(tree, '')))).flat()
}

async function candidatesIn(tree: ImageTree, folder: string): Promise<Candidate[]> {
  const names = await tree.list(folder === '' ? '/' : folder)
  return names.flatMap((name) => {
    const release = KERNEL_FILE.exec(name)?.[1]
    if (release === undefined) return []
    const [path, configPath] = [`${folder}/${name}`, `${folder}/config-${release}`]
    return [{ release, tree, path, configPath }]
  })
}

/** Where systemd's kernel-install has them (Fedora, Arch). */
async function candidatesBesideModules(tree: ImageTree): Promise<Candidate[]> {
  const found: Candidate[] = []
  for (const release of await tree.list('/lib/modules')) {
    const folder = modulesFolder(release)
    const [path, configPath] = [`${folder}/vmlinuz`, `${folder}/config`]
    if (await tree.file(path)) found.push({ release, tree, path, configPath })
  }
  return found
}

async function readModuleIndex(root: ImageTree, release: string): Promise<ModuleIndex | undefined> {
  const read = async (name: string) =>
    await root.text(`${modulesFolder(release)}/${name}`, TEXT_BYTES_MAX)
  const dependencies = await read('modules.dep')
  if (dependencies === undefined) return undefined
  return new ModuleIndex({
    dependencies,
    softDependencies: (await read('modules.softdep')) ?? '',
    aliases: (await read('modules.alias')) ?? '',
    builtin: (await read('modules.builtin')) ?? '',
  })
}

async function whyUnusable(
  { tree, path, configPath }: Candidate,
  modules: ModuleIndex,
  drivers: readonly string[],
): Promise<string | undefined> {
  if (!(await isKernel(tree, path))) return `${path} is not a kernel for x86`
  for (const driver of [NBD_MODULE, ...drivers]) {
    if (!modules.has(driver)) return `it has no ${driver} driver`
  }
  const config = await tree.text(configPath, TEXT_BYTES_MAX)
  if (config === undefined) return undefined
  const lines = new Set(config.split('\n'))
  const missing = NEEDED_OPTIONS.find((option) => !lines.has(`CONFIG_${option}=y`))
  return missing && `it was built without CONFIG_${missing}`
}

async function isKernel(tree: ImageTree, path: string): Promise<boolean> {
  const file = await tree.file(path)
  if (file === undefined) return false
  await using handle = await open(file.path)
  const magic = Buffer.alloc(MAGIC.length)
  await handle.read(magic, 0, magic.length, MAGIC_OFFSET)
  return magic.toString('latin1') === MAGIC
}
