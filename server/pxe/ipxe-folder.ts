/**
 * The folder with the iPXE programs, the distribution's or one of the administrator's. Its files may change
 * while the server runs. A name that a client sends never becomes a path: it is looked for among those that
 * are there.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Where the packages of Debian, Ubuntu (`ipxe`) and Fedora (`ipxe-bootimgs`) put them. */
export const IPXE_FOLDER = '/usr/lib/ipxe'
export const IPXE_FOLDERS: readonly string[] = [IPXE_FOLDER, '/usr/share/ipxe']

/** Programs that firmware loads; the ISO images beside them are for people. */
const PROGRAM = /^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:kpxe|kkpxe|pxe|efi|lkrn|0)$/

/** iPXE with all drivers has 1 MB. */
const PROGRAM_BYTES_MAX = 16 * 1024 * 1024

export class IpxeFolder {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** Names of the programs; none when there is no such folder. */
  async names(): Promise<readonly string[]> {
    const names = await readdir(this.path).catch(() => [])
    return names.filter((name) => PROGRAM.test(name)).sort()
  }

  /** Returns the path of a program that is there. */
  async find(name: string): Promise<string | undefined> {
    const known = (await this.names()).find((it) => it === name)
    return known === undefined ? undefined : join(this.path, known)
  }

  /** Returns the first of the names that is there. */
  async first(names: readonly string[]): Promise<string | undefined> {
    const there = new Set(await this.names())
    return names.find((name) => there.has(name))
  }

  /** Returns what a program holds; undefined when it is not there, or too large to be one. */
  async read(name: string): Promise<Buffer | undefined> {
    const path = await this.find(name)
    if (path === undefined) return undefined
    try {
      const { size } = await stat(path)
      return size > PROGRAM_BYTES_MAX ? undefined : await readFile(path)
    } catch {
      return undefined // a link that leads nowhere
    }
  }
}
