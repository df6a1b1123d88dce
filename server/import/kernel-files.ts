/**
 * Builds the boot files of a kernel out of its image: `vmlinuz`, `modules.img` (drivers every client
 * needs), `extra.img` (drivers and firmware of rare cards, to be unpacked over it) and `kernel.json`.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  EXTRA_ARCHIVE,
  KERNEL_DESCRIPTION,
  KERNEL_IMAGE,
  type KernelDescription,
  MODULES_ARCHIVE,
} from '#server/boot/boot-files.ts'
import { devicesOf } from '#server/boot/device-ids.ts'
import { runTool } from '#server/tool.ts'
import { MiB } from '#shared/units.ts'
import { BASE_FOLDERS, BASE_MODULES, EXTRA_FOLDERS } from './boot-drivers.ts'
import type { ImageTree } from './image-tree.ts'
import { InitramfsTree, isPlainPath } from './initramfs-tree.ts'
import { type FoundKernel, modulesFolder } from './kernel-search.ts'

/** Debian's has 8 MiB, one with everything built in 60. */
const KERNEL_BYTES_MAX: number = 256 * MiB

/** What depmod needs of the image besides the modules, and the initramfs for modprobe. */
const COPIED_LISTS = ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']

/** What depmod writes and modprobe reads; symbols are for those who build modules. */
const INDEXES = [
  'modules.dep',
  'modules.dep.bin',
  'modules.alias',
  'modules.alias.bin',
  'modules.softdep',
  'modules.builtin',
  'modules.builtin.bin',
  'modules.builtin.alias.bin',
  'modules.devname',
]

/** Where distributions keep firmware, packed or not. */
const FIRMWARE_SUFFIXES = ['', '.xz', '.zst']

interface Build {
  readonly kernel: FoundKernel
  /** File system with the modules. */
  readonly root: ImageTree
  readonly tree: InitramfsTree
  readonly signal: AbortSignal
}

/**
 * Fills an empty folder. Returns the kernel's id: SHA-256 of the kernel image, hex.
 * @throws {BootwireError} TOOL_MISSING, TOOL_FAILED, STORE_FULL
 */
export async function buildKernelFiles(
  kernel: FoundKernel,
  root: ImageTree,
  folder: string,
  signal: AbortSignal,
): Promise<string> {
  const treeFolder = join(folder, 'tree')
  const build: Build = { kernel, root, tree: new InitramfsTree(treeFolder, signal), signal }
  await kernel.tree.copyOut(kernel.path, join(folder, KERNEL_IMAGE), KERNEL_BYTES_MAX)
  const { modules } = kernel
  const base = modules.closure([...BASE_MODULES, ...modules.inFolders(BASE_FOLDERS)])
  const devices = await addModules(build, base)
  await build.tree.pack(join(folder, MODULES_ARCHIVE))
  const baseNames = new Set(base)
  const extra = modules.closure(modules.inFolders(EXTRA_FOLDERS))
  await addModules(
    build,
    extra.filter((name) => !baseNames.has(name)),
  )
  await build.tree.pack(join(folder, EXTRA_ARCHIVE))
  await rm(treeFolder, { recursive: true })
  const description: KernelDescription = { format: 1, release: kernel.release, devices }
  await writeFile(join(folder, KERNEL_DESCRIPTION), JSON.stringify(description))
  return await hashOf(join(folder, KERNEL_IMAGE))
}

/** Adds modules, their firmware, and indexes of all so far. Returns the devices these have drivers for. */
async function addModules(build: Build, names: readonly string[]): Promise<string[]> {
  const { kernel, root, tree } = build
  const target = targetFolder(kernel.release)
  for (const name of names) {
    const path = kernel.modules.pathOf(name)
    if (path === undefined || !isPlainPath(path)) continue
    await tree.add(root, `${modulesFolder(kernel.release)}/${path}`, `${target}/${path}`)
  }
  await tree.unpack()
  await addFirmware(build, tree.files('.ko'))
  await tree.unpack()
  await addIndexes(build)
  return await readDevices(tree, target)
}

async function addFirmware(
  { root, tree, signal }: Build,
  modules: readonly string[],
): Promise<void> {
  if (modules.length === 0) return
  const paths = modules.map((module) => tree.pathOf(module))
  // Status 1: one of them could not be read, which its loading will say where it matters.
  const { stdout } = await runTool('modinfo', ['-F', 'firmware', ...paths], {
    signal,
    answers: [1],
  })
  for (const name of new Set(stdout.split('\n').filter(isPlainPath))) {
    for (const suffix of FIRMWARE_SUFFIXES) {
      const found = await tree.add(
        root,
        `/lib/firmware/${name}${suffix}`,
        `usr/lib/firmware/${name}${suffix}`,
      )
      if (found) break
    }
  }
}

async function addIndexes({ kernel, root, tree, signal }: Build): Promise<void> {
  const target = targetFolder(kernel.release)
  for (const name of COPIED_LISTS) {
    await tree.add(root, `${modulesFolder(kernel.release)}/${name}`, `${target}/${name}`)
  }
  await runTool('depmod', ['-b', tree.pathOf('usr'), kernel.release], { signal })
  tree.include(INDEXES.map((name) => `${target}/${name}`))
}

async function readDevices(tree: InitramfsTree, target: string): Promise<string[]> {
  const read = async (name: string) => await readFile(tree.pathOf(`${target}/${name}`), 'utf8')
  const builtin = await read('modules.builtin.modinfo').catch(() => '') // kernels before 5.2
  return devicesOf(await read('modules.alias'), builtin)
}

function targetFolder(release: string): string {
  return `usr/lib/modules/${release}`
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of createReadStream(path)) hash.update(bytes as Uint8Array)
  return hash.digest('hex')
}
