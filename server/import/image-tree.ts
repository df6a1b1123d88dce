/**
 * The files of a mounted image. Images come from anywhere: every path is resolved inside the tree,
 * link by link, so that no symbolic link of the image ever leads to a file of the server.
 */
import { copyFile, lstat, open, readdir, readlink } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'

/** As the kernel's (path_resolution(7)). */
const LINKS_MAX = 40

export interface TreeFile {
  /** Where the server finds it. */
  readonly path: string
  readonly sizeBytes: number
}

export class ImageTree {
  /** Where the server finds the tree. Whoever goes on from here by itself has to look after links. */
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  /** Returns the regular file a path of the image leads to. */
  async file(path: string): Promise<TreeFile | undefined> {
    const resolved = await this.#resolve(path)
    if (resolved === undefined) return undefined
    const status = await lstat(resolved)
    return status.isFile() ? { path: resolved, sizeBytes: status.size } : undefined
  }

  /** Returns the names in a folder, sorted; none when there is no such folder. */
  async list(path: string): Promise<string[]> {
    const resolved = await this.#resolve(path)
    if (resolved === undefined || !(await lstat(resolved)).isDirectory()) return []
    return (await readdir(resolved)).sort()
  }

  /** Returns a text file; undefined when it is not there. @throws {BootwireError} IMAGE_NOT_BOOTABLE when it is absurdly long */
  async text(path: string, bytesMax: number): Promise<string | undefined> {
    const file = await this.file(path)
    if (file === undefined) return undefined
    if (file.sizeBytes > bytesMax) throw tooLong(path, file.sizeBytes, bytesMax)
    await using handle = await open(file.path)
    return await handle.readFile('utf8')
  }

  /** Copies a file out of the image. Returns false when it is not there. */
  async copyOut(path: string, target: string, bytesMax: number): Promise<boolean> {
    const file = await this.file(path)
    if (file === undefined) return false
    if (file.sizeBytes > bytesMax) throw tooLong(path, file.sizeBytes, bytesMax)
    await copyFile(file.path, target)
    return true
  }

  /** Returns a path without symbolic links, below the root; undefined when there is nothing. */
  async #resolve(path: string): Promise<string | undefined> {
    const todo = path.split('/')
    const done: string[] = []
    let links = 0
    for (let name = todo.shift(); name !== undefined; name = todo.shift()) {
      if (name === '' || name === '.') continue
      if (name === '..') {
        done.pop()
        continue
      }
      const target = await this.#linkTarget([...done, name])
      if (target === 'absent') return undefined
      if (target === 'no link') {
        done.push(name)
        continue
      }
      links += 1
      if (links > LINKS_MAX) return undefined
      if (target.path.startsWith('/')) done.length = 0
      todo.unshift(...target.path.split('/'))
    }
    return [this.root, ...done].join('/')
  }

  async #linkTarget(
    names: readonly string[],
  ): Promise<'absent' | 'no link' | { readonly path: string }> {
    const path = [this.root, ...names].join('/')
    try {
      return (await lstat(path)).isSymbolicLink() ? { path: await readlink(path) } : 'no link'
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'ENOENT' || code === 'ENOTDIR') return 'absent'
      throw error
    }
  }
}

function tooLong(path: string, sizeBytes: number, bytesMax: number): BootwireError {
  return new BootwireError(
    'IMAGE_NOT_BOOTABLE',
    `Cannot use "${path}" of the image: it has ${sizeBytes} bytes, expected at most ${bytesMax}`,
  )
}
