/**
 * Where traces are kept: `<folder>/<version id>/<origin>-<boot id>.trace`. A file that is damaged is
 * told of once and removed: the next boots bring what it held.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '#server/log.ts'
import { syncFolder } from '#server/store/durable-file.ts'
import { isMissing } from '#server/store/read-fully.ts'
import { type BootTrace, decodeBootTrace, encodeBootTrace } from './boot-trace.ts'

const SUFFIX = '.trace'

/** The traces of all versions; kept by files, in tests by memory. */
export interface TraceFiles {
  /** Folder for what is derived from a version's traces; undefined where nothing is kept on a disk. */
  folderOf(versionId: string): string | undefined
  load(versionId: string): Promise<BootTrace[]>
  /** In place of the one of the same origin and boot. */
  save(versionId: string, trace: BootTrace): Promise<void>
  remove(versionId: string, trace: BootTrace): Promise<void>
  /** All of a version, with what is derived from it. */
  removeVersion(versionId: string): Promise<void>
  listVersions(): Promise<string[]>
}

export class FolderTraceFiles implements TraceFiles {
  readonly #path: string
  readonly #log: Log

  private constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  static async open(path: string, log: Log): Promise<FolderTraceFiles> {
    await mkdir(path, { recursive: true, mode: 0o700 })
    return new FolderTraceFiles(path, log)
  }

  folderOf(versionId: string): string {
    return join(this.#path, versionId)
  }

  async load(versionId: string): Promise<BootTrace[]> {
    const folder = this.folderOf(versionId)
    const names = (await namesIn(folder)).filter((name) => name.endsWith(SUFFIX)).sort()
    const traces = await Promise.all(names.map((name) => this.#read(join(folder, name))))
    return traces.filter((trace) => trace !== undefined)
  }

  async save(versionId: string, trace: BootTrace): Promise<void> {
    const folder = this.folderOf(versionId)
    await mkdir(folder, { recursive: true })
    const path = join(folder, nameOf(trace))
    const temporaryPath = `${path}.${randomBytes(4).toString('hex')}.new`
    try {
      await using file = await open(temporaryPath, 'wx')
      await file.writeFile(encodeBootTrace(trace))
      await file.sync()
      await rename(temporaryPath, path)
      await syncFolder(folder)
    } catch (error) {
      await rm(temporaryPath, { force: true })
      throw error
    }
  }

  async remove(versionId: string, trace: BootTrace): Promise<void> {
    await rm(join(this.folderOf(versionId), nameOf(trace)), { force: true })
  }

  async removeVersion(versionId: string): Promise<void> {
    await rm(this.folderOf(versionId), { recursive: true, force: true })
  }

  async listVersions(): Promise<string[]> {
    return await namesIn(this.#path)
  }

  async #read(path: string): Promise<BootTrace | undefined> {
    try {
      return decodeBootTrace(await readFile(path))
    } catch (error) {
      if (isMissing(error)) return undefined
      const why = error instanceof Error ? error.message : String(error)
      this.#log.warn({ path }, `a trace is damaged and is removed: ${why}`)
      await rm(path, { force: true })
      return undefined
    }
  }
}

function nameOf({ origin, bootId }: BootTrace): string {
  return `${origin}-${bootId}${SUFFIX}`
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}
