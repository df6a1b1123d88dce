/**
 * The kernels that can be booted, with their files: one folder `<state>/boot/kernel/<kernel id>/`
 * each. What may be served is the table in memory: no path that a client sends ever becomes one.
 *
 * A kernel's files are built in a passing folder beside it and moved in one by one by renames, each
 * after it is on the disk: the vDisk that needs them is registered next. Downloads under way keep
 * the file they began.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { syncFile, syncFolder } from '#server/store/durable-file.ts'
import { namingFullFolder } from '#server/store/store-full.ts'

export const KERNEL_IMAGE = 'vmlinuz'
/** Drivers every client needs to reach its root. */
export const MODULES_ARCHIVE = 'modules.img'
/** Drivers and firmware of rare network cards, unpacked over the former. */
export const EXTRA_ARCHIVE = 'extra.img'
/** Says what the archives are for; never served. */
export const KERNEL_DESCRIPTION = 'kernel.json'

const SERVED_FILES = [KERNEL_IMAGE, MODULES_ARCHIVE, EXTRA_ARCHIVE] as const

const descriptionSchema = v.object({
  format: v.literal(1),
  release: v.string(),
  /** Devices that the kernel itself or `modules.img` has a driver for, as `pci:8086:100e`. */
  devices: v.array(v.string()),
})
export type KernelDescription = v.InferOutput<typeof descriptionSchema>

const KERNEL_ID = /^[0-9a-f]{64}$/
const PASSING_PREFIX = 'new-'

interface Kernel {
  readonly devices: ReadonlySet<string>
  readonly paths: ReadonlyMap<string, string>
}

export class BootFiles {
  readonly #folder: string
  readonly #kernels = new Map<string, Kernel>()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Removes what a crash left half-way, and folders that lack a file. */
  static async open(stateFolder: string): Promise<BootFiles> {
    const files = new BootFiles(join(stateFolder, 'boot', 'kernel'))
    await mkdir(files.#folder, { recursive: true })
    for (const name of await readdir(files.#folder)) {
      if (KERNEL_ID.test(name) && (await files.#load(name))) continue
      await rm(join(files.#folder, name), { recursive: true })
    }
    return files
  }

  /** Ids of the kernels whose files are there. */
  async listKernels(): Promise<string[]> {
    return [...this.#kernels.keys()].sort()
  }

  /** Returns where a file of a kernel lies; undefined for all that is not to be served. */
  find(kernelId: string, file: string): string | undefined {
    return this.#kernels.get(kernelId)?.paths.get(file)
  }

  /** True when a machine with this network card boots without `extra.img`. */
  hasDriver(kernelId: string, device: string): boolean {
    const devices = this.#kernels.get(kernelId)?.devices
    const anyOfVendor = device.replace(/:[^:]*$/, ':*')
    return devices !== undefined && (devices.has(device) || devices.has(anyOfVendor))
  }

  /**
   * Runs `build` on an empty folder and takes over the files of the kernel whose id it returns.
   * @throws {BootwireError} STORE_FULL, and what `build` throws
   */
  async add(build: (folder: string) => Promise<string>): Promise<string> {
    return await namingFullFolder(this.#folder, () => this.#add(build))
  }

  async removeKernel(kernelId: string): Promise<void> {
    if (!this.#kernels.delete(kernelId)) return
    await rm(join(this.#folder, kernelId), { recursive: true, force: true })
  }

  async #add(build: (folder: string) => Promise<string>): Promise<string> {
    const passing = join(this.#folder, PASSING_PREFIX + randomBytes(8).toString('hex'))
    await mkdir(passing)
    try {
      const kernelId = await build(passing)
      const folder = join(this.#folder, kernelId)
      await mkdir(folder, { recursive: true })
      // The description last: a kernel without it is not there yet.
      for (const name of [...SERVED_FILES, KERNEL_DESCRIPTION]) {
        await syncFile(join(passing, name))
        await rename(join(passing, name), join(folder, name))
      }
      await syncFolder(folder)
      await syncFolder(this.#folder)
      await this.#load(kernelId)
      return kernelId
    } finally {
      await rm(passing, { recursive: true, force: true })
    }
  }

  /** Returns false when the folder is not that of a whole kernel. */
  async #load(kernelId: string): Promise<boolean> {
    const folder = join(this.#folder, kernelId)
    const names = new Set(await readdir(folder))
    if (![...SERVED_FILES, KERNEL_DESCRIPTION].every((name) => names.has(name))) return false
    const description = await readDescription(join(folder, KERNEL_DESCRIPTION))
    if (description === undefined) return false
    this.#kernels.set(kernelId, {
      devices: new Set(description.devices),
      paths: new Map(SERVED_FILES.map((name) => [name, join(folder, name)])),
    })
    return true
  }
}

async function readDescription(path: string): Promise<KernelDescription | undefined> {
  try {
    const parsed = v.safeParse(descriptionSchema, JSON.parse(await readFile(path, 'utf8')))
    return parsed.success ? parsed.output : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
