/**
 * The files that agent, initramfs and running system share: `/run/bootwire` (ARCHITECTURE.md has the
 * table). Each is written beside its place and renamed, so that nobody reads half of one.
 */
import {
  type FSWatcher,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

export const RUN_FOLDER = '/run/bootwire'

export class RunFolder {
  readonly path: string

  constructor(path: string = RUN_FOLDER) {
    this.path = path
    mkdirSync(path, { recursive: true })
  }

  pathOf(name: string): string {
    return join(this.path, name)
  }

  /** `mode`: who may read it, when that is not everybody. */
  write(name: string, text: string, mode?: number): void {
    const temporaryPath = this.pathOf(`.${name}.new`)
    writeFileSync(temporaryPath, text, mode === undefined ? {} : { mode })
    renameSync(temporaryPath, this.pathOf(name))
  }

  read(name: string): string | undefined {
    try {
      return readFileSync(this.pathOf(name), 'utf8')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
      throw error
    }
  }

  /** Removes a file, or a folder with all in it, when it is there. */
  remove(name: string): void {
    rmSync(this.pathOf(name), { recursive: true, force: true })
  }

  /**
   * Returns the first value of `read` that is not undefined, looking again whenever a file of the
   * folder has changed. @throws what the signal was aborted with
   */
  async until<T>(read: () => T | undefined, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const look = () => {
      try {
        const value = read()
        if (value !== undefined) resolve(value)
      } catch (error) {
        reject(error)
      }
    }
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const watcher: FSWatcher = watch(this.path, look)
    watcher.on('error', reject)
    try {
      look() // after the watch began, so that nothing is missed
      return await promise
    } finally {
      watcher.close()
      signal.removeEventListener('abort', onAbort)
    }
  }
}
