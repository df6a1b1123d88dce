/**
 * Who changed what, when, and how it was before: a line of JSON per change in `audit/audit.jsonl`, which is
 * durable before whoever asked for the change is answered. Full files are kept under numbers, the youngest
 * as 1, and the oldest goes.
 */
import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MiB } from '#shared/units.ts'
import type { Role } from './roles.ts'

/** A change takes some 500 bytes: 16,000 in a file. */
export const AUDIT_FILE_BYTES_MAX: number = 8 * MiB
/** Together a quarter of a million changes: years of a school, and no disk is filled. */
export const AUDIT_FILES_MAX = 16

export interface AuditEntry {
  /** ISO 8601, by the server's clock. */
  readonly at: string
  readonly by: string
  readonly role: Role
  /** Where it was asked from; absent on the server itself. */
  readonly address?: string
  /** As on the command line: `client approve`. */
  readonly action: string
  /** Name of the client or vDisk it was about. */
  readonly subject?: string
  /** What was asked for, without secrets. */
  readonly request?: unknown
  /** What it changed: its fields before and after, those alone that differ. */
  readonly before?: unknown
  readonly after?: unknown
  /** `done`, or the code of the error. */
  readonly outcome: string
}

export interface AuditQuery {
  readonly limit: number
  readonly by?: string | undefined
  readonly subject?: string | undefined
}

export interface AuditLimits {
  readonly fileBytesMax: number
  readonly filesMax: number
}

const LIMITS: AuditLimits = { fileBytesMax: AUDIT_FILE_BYTES_MAX, filesMax: AUDIT_FILES_MAX }

/** Absolute paths, and what users may have stored, are the owner's alone. */
const FILE_MODE = 0o600
const FOLDER_MODE = 0o700

export class AuditLog {
  readonly #folder: string
  readonly #limits: AuditLimits
  #file: FileHandle
  #sizeBytes: number
  /** One after the other, or lines would run into each other. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(folder: string, file: FileHandle, sizeBytes: number, limits: AuditLimits) {
    this.#folder = folder
    this.#file = file
    this.#sizeBytes = sizeBytes
    this.#limits = limits
  }

  static async open(folder: string, limits: AuditLimits = LIMITS): Promise<AuditLog> {
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE })
    const file = await openFile(pathOf(folder, 0))
    const { size } = await file.stat()
    const log = new AuditLog(folder, file, size, limits)
    // A crash may have left half a line: the next begins on one of its own.
    if (size > 0) await log.#write('\n')
    return log
  }

  /** Returns when the entry is durable. @throws when it cannot be written */
  async append(entry: AuditEntry): Promise<void> {
    const written = this.#last.then(() => this.#append(entry))
    this.#last = written.catch(() => undefined)
    await written
  }

  /** Newest first. Lines that cannot be read are left out. */
  async list({ limit, by, subject }: AuditQuery): Promise<AuditEntry[]> {
    await this.#last
    const found: AuditEntry[] = []
    for (let number = 0; number < this.#limits.filesMax && found.length < limit; number += 1) {
      const entries = await entriesIn(pathOf(this.#folder, number))
      if (entries === undefined) break
      const fitting = entries
        .toReversed()
        .filter((entry) => by === undefined || entry.by === by)
        .filter((entry) => subject === undefined || entry.subject === subject)
      found.push(...fitting.slice(0, limit - found.length))
    }
    return found
  }

  async close(): Promise<void> {
    await this.#last
    await this.#file.close()
  }

  async #append(entry: AuditEntry): Promise<void> {
    if (this.#sizeBytes >= this.#limits.fileBytesMax) await this.#rotate()
    await this.#write(`${JSON.stringify(entry)}\n`)
    await this.#file.datasync()
  }

  async #write(text: string): Promise<void> {
    const bytes = Buffer.from(text)
    await this.#file.appendFile(bytes)
    this.#sizeBytes += bytes.length
  }

  /** From the oldest on, so that a crash in between loses none but that. */
  async #rotate(): Promise<void> {
    const { filesMax } = this.#limits
    await rm(pathOf(this.#folder, filesMax - 1), { force: true })
    for (let number = filesMax - 2; number >= 0; number -= 1) {
      await rename(pathOf(this.#folder, number), pathOf(this.#folder, number + 1)).catch(
        ignoreMissing,
      )
    }
    const full = this.#file
    this.#file = await openFile(pathOf(this.#folder, 0))
    this.#sizeBytes = 0
    await full.close()
  }
}

async function openFile(path: string): Promise<FileHandle> {
  return await open(path, 'a', FILE_MODE)
}

function pathOf(folder: string, number: number): string {
  return join(folder, number === 0 ? 'audit.jsonl' : `audit-${number}.jsonl`)
}

async function entriesIn(path: string): Promise<AuditEntry[] | undefined> {
  const text = await readFile(path, 'utf8').catch(ignoreMissing)
  return text?.split('\n').flatMap((line) => entryIn(line))
}

function entryIn(line: string): AuditEntry[] {
  try {
    return line === '' ? [] : [JSON.parse(line) as AuditEntry]
  } catch {
    return [] // half a line of a crash
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
