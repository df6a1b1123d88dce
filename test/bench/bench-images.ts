/**
 * Disk images for the benches, of two systems in two versions each: as the release came out last, and
 * with all that has been corrected since, this once by apt inside the first version's file system (in
 * place) and once installed anew (rebuilt). All are bare ext4, built once and kept beside the systems
 * they are made of. Needs root.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { GiB } from '#shared/units.ts'
import { RELEASE_POCKET, readSourcesFiles, sourcesOfRelease } from '#test/support/apt-sources.ts'
import { ensureBuilt, recipeKey } from '#test/support/build-cache.ts'
import { runProgram } from '#test/support/child-run.ts'
import { makeExt4 } from '#test/support/fake-system.ts'
import {
  DESKTOP,
  DESKTOP_BYTES,
  DESKTOP_IS_UP,
  ensureRootfs,
  type Rootfs,
  type RootfsRecipe,
} from '#test/support/rootfs.ts'
import { ensureKernelFiles } from '#test/support/vdisk-image.ts'
import type { BootRecipe } from './record-boot.ts'
import { say } from './report.ts'

export const BENCH_SYSTEMS = ['minimal', 'desktop'] as const
export type BenchSystem = (typeof BENCH_SYSTEMS)[number]

export const UPDATES = ['in place', 'rebuilt'] as const
export type Update = (typeof UPDATES)[number]

export interface BenchImages {
  readonly system: BenchSystem
  /** Version 1: the release without corrections. */
  readonly before: string
  /** Version 2, by how it was made. */
  readonly after: Readonly<Record<Update, string>>
  /** How each of them is booted. */
  readonly boots: Readonly<Record<'before' | Update, BootRecipe>>
}

interface Kind {
  readonly recipe: Omit<RootfsRecipe, 'label'>
  readonly imageBytes: number
  readonly memoryMiB: number
  /** What the serial console shows when somebody can work. */
  readonly upPattern: RegExp
}

const KINDS: Readonly<Record<BenchSystem, Kind>> = {
  minimal: {
    recipe: { packages: [], kernel: 'virtual' },
    imageBytes: GiB,
    memoryMiB: 512,
    upPattern: /login: /,
  },
  // A desktop has a browser and runs on any machine: with every driver, two kernels after an update.
  desktop: {
    recipe: DESKTOP,
    imageBytes: DESKTOP_BYTES,
    memoryMiB: 1024,
    upPattern: DESKTOP_IS_UP,
  },
}

const UPDATE_SCRIPT = join(import.meta.dirname, 'bench-update.sh')

/** The first build takes minutes, and downloads the system twice. */
export async function ensureBenchImages(system: BenchSystem): Promise<BenchImages> {
  const { recipe, imageBytes, memoryMiB, upPattern } = KINDS[system]
  const release = await ensureSystem(`${system}-release`, { ...recipe, suites: RELEASE_POCKET })
  const updated = await ensureSystem(`${system}-updated`, recipe)
  const before = await ensureImage(release, imageBytes)
  const after = {
    'in place': await ensureUpdated(before, updated),
    rebuilt: await ensureImage(updated, imageBytes),
  }
  const boot = async (image: string, rootfs: Rootfs): Promise<BootRecipe> => {
    return { image, ...(await ensureKernelFiles(rootfs)), memoryMiB, upPattern }
  }
  const boots = {
    before: await boot(before, release),
    'in place': await boot(after['in place'], updated),
    rebuilt: await boot(after.rebuilt, updated),
  }
  return { system, before, after, boots }
}

async function ensureSystem(label: string, recipe: Omit<RootfsRecipe, 'label'>): Promise<Rootfs> {
  return await ensureRootfs(() => say(`installing ${label} with mmdebstrap`), { ...recipe, label })
}

async function ensureImage(rootfs: Rootfs, sizeBytes: number): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'bench-ext4.img'), async (image) => {
    const tree = await mkdtemp(join(dirname(image), 'tree-'))
    try {
      await runProgram('tar', ['-xf', rootfs.tarPath, '-C', tree, '--numeric-owner'])
      await runProgram('chmod', ['0755', tree])
      await makeExt4(image, tree, sizeBytes)
    } finally {
      await rm(tree, { recursive: true, force: true })
    }
  })
}

/** Version 1's image after apt has made version 2 of it. */
async function ensureUpdated(before: string, after: Rootfs): Promise<string> {
  const sources = sourcesOfRelease(await readSourcesFiles(), after.system.codename)
  const script = await readFile(UPDATE_SCRIPT, 'utf8')
  const key = recipeKey({ sources, folder: basename(after.folder), script })
  return await ensureBuilt(`${before}.updated-${key}`, async (image) => {
    say(`updating a copy of ${before} with apt`)
    const folder = await mkdtemp(join(dirname(image), 'sources-'))
    for (const [index, { style, text }] of sources.entries()) {
      const suffix = style === 'deb822' ? 'sources' : 'list'
      await writeFile(join(folder, `${index}.${suffix}`), text)
    }
    await runProgram('cp', ['--sparse=always', before, image])
    await runProgram('unshare', [
      '--mount',
      '--propagation',
      'private',
      UPDATE_SCRIPT,
      image,
      folder,
    ])
  })
}
