/**
 * Disks that machines send to become vDisks. Each has a folder, so that neither the end of the server nor that of
 * the machine loses what has come. One that begins anew on the same disk of the same machine takes over what is
 * there when an operator has approved it, not before: whoever claims to be that machine changes nothing. The machine
 * compares, and sends what differs.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import type { ImportProgress } from '#server/import/import-image.ts'
import type { Log } from '#server/log.ts'
import { syncFolder, writeDurably } from '#server/store/durable-file.ts'
import {
  type CAPTURE_STATES,
  type CaptureBegun,
  type CaptureRequest,
  type CaptureStatus,
  captureRequestSchema,
} from '#shared/capture/capture-protocol.ts'
import { BootwireError } from '#shared/errors.ts'
import { enrolCode, parseEnrolCode } from '#shared/identity/enrol-code.ts'
import { CapturedDisk } from './captured-disk.ts'

/** What the operator has said of the import; what else it holds is for `importImage` to know. */
export interface CaptureWish {
  /** Of the vDisk. */
  readonly name: string
}

export interface CapturesDeps {
  readonly folder: string
  /** Makes the image a version of a vDisk. */
  readonly importImage: (
    path: string,
    wish: CaptureWish,
    onProgress: (progress: ImportProgress) => void,
    signal: AbortSignal,
  ) => Promise<{ readonly vdisk: string; readonly number: number }>
  readonly now: () => number
  readonly log: Log
}

export interface CaptureView {
  readonly id: string
  /** What the machine shows while it waits. */
  readonly code: string
  readonly state: (typeof CAPTURE_STATES)[number]
  readonly note: string
  readonly mac: string
  readonly product: string
  readonly disk: string
  readonly sizeBytes: number
  readonly receivedBytes: number
  readonly vdisk?: string
  /** When the machine was last heard of. */
  readonly seenAtMs: number
}

/** More at once would be no technician's work. Of those that nobody approves, the oldest gives way. */
export const CAPTURES_MAX = 32

const RECORD_FILE = 'capture.json'

const recordSchema = v.object({
  id: v.string(),
  request: captureRequestSchema,
  /** SHA-256 of the token, hex. */
  tokenHash: v.string(),
  code: v.string(),
  state: v.picklist(['waiting', 'approved', 'importing']),
  wish: v.optional(v.looseObject({ name: v.string() })),
})
type CaptureRecord = v.InferOutput<typeof recordSchema>

export class Capture {
  readonly id: string
  /** Of its files. */
  folder: string
  disk: CapturedDisk
  record: CaptureRecord
  seenAtMs: number
  /** Of one that is over: kept as long as the server runs, for the machine to hear it. */
  outcome: CaptureStatus | undefined
  note = ''
  /** One segment after the other. */
  turn: Promise<unknown> = Promise.resolve()

  constructor(folder: string, disk: CapturedDisk, record: CaptureRecord, seenAtMs: number) {
    this.id = record.id
    this.folder = folder
    this.disk = disk
    this.record = record
    this.seenAtMs = seenAtMs
  }

  get status(): CaptureStatus {
    return this.outcome ?? { state: this.record.state, note: this.note }
  }
}

export class Captures implements AsyncDisposable {
  readonly #deps: CapturesDeps
  readonly #all = new Map<string, Capture>()
  readonly #stop = new AbortController()
  readonly #imports = new Set<Promise<void>>()

  private constructor(deps: CapturesDeps) {
    this.#deps = deps
  }

  /** Goes on with what there is. */
  static async open(deps: CapturesDeps): Promise<Captures> {
    const captures = new Captures(deps)
    await mkdir(deps.folder, { recursive: true, mode: 0o700 })
    for (const name of await readdir(deps.folder)) await captures.#load(join(deps.folder, name))
    return captures
  }

  list(): CaptureView[] {
    return [...this.#all.values()].map(viewOf)
  }

  async begin(request: CaptureRequest): Promise<CaptureBegun> {
    const token = randomBytes(24).toString('base64url')
    const tokenHash = hashOf(token)
    await this.#makeRoom()
    const id = randomBytes(16).toString('hex')
    const code = enrolCode(randomBytes(32), id, token)
    const record: CaptureRecord = { id, request, tokenHash, code, state: 'waiting' }
    const folder = join(this.#deps.folder, id)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    try {
      await saveRecord(folder, record)
      const disk = await CapturedDisk.open(folder, request.disk.sizeBytes)
      this.#all.set(id, new Capture(folder, disk, record, this.#deps.now()))
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
    this.#deps.log.info({ capture: id, code, disk: request.disk }, 'a machine wants to be captured')
    return { id, token, code }
  }

  /** Returns the capture of who has its token. @throws {BootwireError} CAPTURE_REFUSED */
  authorized(id: string, token: string): Capture {
    const capture = this.#all.get(id)
    const isRight =
      capture !== undefined &&
      timingSafeEqual(Buffer.from(hashOf(token)), Buffer.from(capture.record.tokenHash))
    if (!isRight) {
      throw new BootwireError(
        'CAPTURE_REFUSED',
        'The server takes nothing of this disk: it was refused, removed, or begun anew elsewhere',
      )
    }
    capture.seenAtMs = this.#deps.now()
    return capture
  }

  /** `which`: the code on the machine's screen, or the beginning of an id. */
  async approve(which: string, wish: CaptureWish): Promise<CaptureView> {
    const capture = this.#find(which)
    if (capture.record.state !== 'waiting' || capture.outcome !== undefined) {
      throw new BootwireError(
        'IN_USE',
        `Cannot approve capture ${capture.id.slice(0, 8)}: it is ${capture.status.state} already`,
      )
    }
    const record: CaptureRecord = { ...capture.record, state: 'approved', wish: { ...wish } }
    await this.#takeOver(capture, record)
    await saveRecord(capture.folder, record)
    capture.record = record
    return viewOf(capture)
  }

  /** Refuses it, or gives up what has come. */
  async remove(which: string): Promise<CaptureView> {
    const capture = this.#find(which)
    if (capture.record.state === 'importing' && capture.outcome === undefined) {
      throw new BootwireError('IN_USE', 'Cannot remove a capture that is being made a vDisk')
    }
    const view = viewOf(capture)
    await this.#forget(capture)
    return view
  }

  /** Everything is there: makes it a vDisk, after reading it once more. */
  async finish(capture: Capture): Promise<void> {
    const record: CaptureRecord = { ...capture.record, state: 'importing' }
    await saveRecord(capture.folder, record)
    capture.record = record
    this.#startImport(capture)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#imports)
    for (const { disk, turn } of this.#all.values()) {
      await turn.catch(() => undefined)
      await disk[Symbol.asyncDispose]()
    }
  }

  async #load(folder: string): Promise<void> {
    try {
      const text = await readFile(join(folder, RECORD_FILE), 'utf8')
      const record = v.parse(recordSchema, JSON.parse(text))
      const disk = await CapturedDisk.open(folder, record.request.disk.sizeBytes)
      const capture = new Capture(folder, disk, record, this.#deps.now())
      const twin = this.#all.get(capture.id)
      // Stopped while one took over the other.
      const lesser = twin && lesserOf(capture, twin)
      if (lesser !== undefined) await this.#discard(lesser)
      if (lesser === capture) return
      this.#all.set(capture.id, capture)
      if (record.state === 'importing') this.#startImport(capture)
    } catch (error) {
      // Begun and not written down: nobody has been told of it.
      const isEmpty = error instanceof Error && 'code' in error && error.code === 'ENOENT'
      if (isEmpty) await rm(folder, { recursive: true, force: true })
      else this.#deps.log.error({ err: error, folder }, 'a capture cannot be read; it stays there')
    }
  }

  #startImport(capture: Capture): void {
    const running = this.#import(capture)
      .catch((error: unknown) => {
        this.#deps.log.error({ err: error, capture: capture.id }, 'capture')
      })
      .finally(() => this.#imports.delete(running))
    this.#imports.add(running)
  }

  async #import(capture: Capture): Promise<void> {
    const { log, importImage } = this.#deps
    const { signal } = this.#stop
    const { disk, id, record } = capture
    const { wish } = record
    try {
      if (wish === undefined) throw new Error('a capture without approval')
      const onVerified = (doneBytes: number) => {
        capture.note = `reading it once more, ${Math.floor((100 * doneBytes) / disk.sizeBytes)} %`
      }
      await disk.verify(onVerified, signal)
      const onProgress = ({ stage, doneBytes, totalBytes }: ImportProgress) => {
        const share = totalBytes === 0 ? '' : `, ${Math.floor((100 * doneBytes) / totalBytes)} %`
        capture.note = `${stage}${share}`
      }
      const { vdisk, number } = await importImage(disk.path, wish, onProgress, signal)
      capture.outcome = { state: 'done', note: `it is ${vdisk}@${number}` }
      log.info({ capture: id, vdisk, version: number }, 'captured')
    } catch (error) {
      if (signal.aborted) return // goes on when the server is back
      const note = error instanceof Error ? error.message : String(error)
      log.warn({ capture: id }, `capture failed: ${note}`)
      capture.outcome = { state: 'failed', note }
      // What has come is good: approved again, it is tried again.
      capture.record = { ...record, state: 'waiting' }
      await saveRecord(capture.folder, capture.record)
      return
    }
    await this.#discard(capture)
  }

  #find(which: string): Capture {
    const code = parseEnrolCode(which)
    const found = [...this.#all.values()].filter(
      ({ id, record }) => record.code === code || (which.length >= 4 && id.startsWith(which)),
    )
    if (found[0] !== undefined && found.length === 1) return found[0]
    throw new BootwireError(
      'NOT_FOUND',
      `Cannot find a capture "${which}": expected the code on the machine's screen, or an id of "bootwire capture ls"`,
    )
  }

  /** Goes on with what has come of the same disk before; of several, where there is most. */
  async #takeOver(capture: Capture, record: CaptureRecord): Promise<void> {
    const [before] = [...this.#all.values()]
      .filter((it) => it !== capture && isSameDisk(it, capture))
      .sort((a, b) => b.disk.receivedBytes - a.disk.receivedBytes)
    if (before === undefined) return
    this.#all.delete(before.id)
    await before.turn.catch(() => undefined)
    await saveRecord(before.folder, record)
    const empty = new Capture(capture.folder, capture.disk, record, 0)
    capture.folder = before.folder
    capture.disk = before.disk
    await this.#discard(empty)
  }

  /** @throws {BootwireError} IN_USE */
  async #makeRoom(): Promise<void> {
    if (this.#all.size < CAPTURES_MAX) return
    const isIdle = ({ record, outcome, disk }: Capture) =>
      outcome?.state === 'done' || (record.state === 'waiting' && disk.receivedBytes === 0)
    const [oldest] = [...this.#all.values()].filter(isIdle).sort((a, b) => a.seenAtMs - b.seenAtMs)
    if (oldest === undefined) {
      throw new BootwireError(
        'IN_USE',
        `Cannot begin another capture: there are ${CAPTURES_MAX}; "bootwire capture rm" makes room`,
      )
    }
    await this.#forget(oldest)
  }

  async #forget(capture: Capture): Promise<void> {
    this.#all.delete(capture.id)
    await this.#discard(capture)
  }

  async #discard({ folder, disk, turn }: Capture): Promise<void> {
    await turn.catch(() => undefined)
    await disk[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  }
}

async function saveRecord(folder: string, record: CaptureRecord): Promise<void> {
  const path = join(folder, RECORD_FILE)
  const fresh = `${path}.${randomBytes(4).toString('hex')}`
  await writeDurably(fresh, Buffer.from(JSON.stringify(record)))
  await rename(fresh, path)
  await syncFolder(folder)
}

function lesserOf(a: Capture, b: Capture): Capture {
  return a.disk.receivedBytes < b.disk.receivedBytes ? a : b
}

/** False for one that is over, or being made a vDisk. */
function isSameDisk(before: Capture, now: Capture): boolean {
  const key = ({ record: { request } }: Capture) =>
    JSON.stringify([request.facts.macs[0], request.facts.uuid, request.disk])
  const isOver = before.outcome?.state === 'done' || before.record.state === 'importing'
  return !isOver && key(before) === key(now)
}

function viewOf(capture: Capture): CaptureView {
  const { id, record, disk, seenAtMs, status } = capture
  const { facts } = record.request
  return {
    id,
    code: record.code,
    state: status.state,
    note: status.note,
    mac: facts.macs[0] ?? '',
    product: facts.product ?? '',
    disk: record.request.disk.name,
    sizeBytes: disk.sizeBytes,
    receivedBytes: disk.receivedBytes,
    ...(record.wish !== undefined && { vdisk: record.wish.name }),
    seenAtMs,
  }
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
