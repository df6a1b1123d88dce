/** Looks up paths in an image's root file system, links followed as the running system would. */
import type { Ext4 } from './ext4.ts'
import type { FileMap, MappedFile } from './file-map.ts'

/** As Linux has it. */
const LINKS_MAX = 40

/** Of what is read as text: units of systemd and the like. */
const TEXT_BYTES_MAX = 64 * 1024

export class RootTree {
  readonly #files: FileMap
  readonly #fileSystem: Ext4
  readonly #childrenOf = new Map<string, string[]>()

  constructor(files: FileMap, fileSystem: Ext4) {
    this.#files = files
    this.#fileSystem = fileSystem
    for (const path of files.files.keys()) {
      if (path === '/') continue
      const parent = parentOf(path)
      const children = this.#childrenOf.get(parent)
      if (children === undefined) this.#childrenOf.set(parent, [path])
      else children.push(path)
    }
  }

  /** Returns the file or folder a path leads to, after its last link; undefined when there is none. */
  find(path: string): MappedFile | undefined {
    return this.trail(path).at(-1)
  }

  /** All that is read on the way to a path: folders, links, and what is found at its end, last. */
  trail(path: string): MappedFile[] {
    const trail: MappedFile[] = []
    let rest = path.split('/').filter((name) => name !== '')
    let here = ''
    let links = 0
    for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
      if (name === '.') continue
      if (name === '..') {
        here = here.slice(0, Math.max(0, here.lastIndexOf('/')))
        continue
      }
      const found = this.#files.find(`${here}/${name}`)
      if (found === undefined) return []
      trail.push(found)
      if (found.kind !== 'link') {
        here = found.path
        continue
      }
      links += 1
      if (found.target === undefined || links > LINKS_MAX) return []
      if (found.target.startsWith('/')) here = ''
      rest = [...found.target.split('/').filter((part) => part !== ''), ...rest]
    }
    return trail
  }

  /** Paths in a folder, by name; none when it is not there. */
  list(folder: string): string[] {
    const found = this.find(folder)
    return found === undefined ? [] : (this.#childrenOf.get(found.path) ?? []).toSorted()
  }

  /** Reads a part of a file. */
  read(file: MappedFile, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    return this.#fileSystem.readFile(file, offsetBytes, lengthBytes)
  }

  /** The text of a small file; empty when it is not there. */
  async text(path: string): Promise<string> {
    const file = this.find(path)
    if (file?.kind !== 'file') return ''
    return Buffer.from(await this.read(file, 0, TEXT_BYTES_MAX)).toString('utf8')
  }
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}
