/** What goes over the administration socket: the JSON both the server and the CLI know. */
import * as v from 'valibot'
import type {
  BootRecord,
  ClientRecord,
  ClientState,
  VDiskRecord,
  VersionRecord,
} from '#server/state/records.ts'
import type { ErrorCode } from '#shared/errors.ts'
import { ASSIGNMENTS_MAX, NAME_LENGTH_MAX } from '#shared/wire/limits.ts'

const PATH_LENGTH_MAX = 4096

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(NAME_LENGTH_MAX))
const vdisks = v.pipe(v.array(name), v.maxLength(ASSIGNMENTS_MAX))

export const importRequestSchema = v.object({
  /** Absolute path on the server. */
  path: v.pipe(v.string(), v.startsWith('/'), v.maxLength(PATH_LENGTH_MAX)),
  name,
  title: v.optional(v.pipe(v.string(), v.maxLength(120))),
  /** 1-based; absent to have it found. */
  rootPartition: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(128))),
  /** Accept an image without a kernel: it runs on the default boot kernel. */
  kernelOptional: v.optional(v.boolean(), false),
})
export type ImportRequest = v.InferInput<typeof importRequestSchema>

export const approveRequestSchema = v.object({ vdisks: v.optional(vdisks, []) })
export const assignRequestSchema = v.object({
  vdisks: v.pipe(vdisks, v.minLength(1)),
  /** Replace what was assigned. */
  only: v.optional(v.boolean(), false),
})
export const unassignRequestSchema = v.object({ vdisks: v.pipe(vdisks, v.minLength(1)) })
export const renameRequestSchema = v.object({ hostname: v.string() })

export interface VDiskView extends VDiskRecord {
  readonly versions: readonly VersionRecord[]
  /** Ids of the clients it is assigned to. */
  readonly clientIds: readonly string[]
  /** Sessions that read it right now. */
  readonly sessionCount: number
}

/** `waiting`: connected, no vDisk open yet. `streaming`: runs on its vDisk. */
export type Connection = 'off' | 'waiting' | 'streaming'

export interface ClientView extends ClientRecord {
  readonly connection: Connection
}

export interface ClientDetails extends ClientView {
  /** Newest first. */
  readonly boots: readonly BootRecord[]
}

export interface BootView extends BootRecord {
  readonly hostname: string
}

export interface StatusView {
  readonly version: string
  readonly serverName: string
  readonly startedAtMs: number
  readonly uptimeSeconds: number
  readonly stateFolder: string
  readonly address: string
  readonly httpPort: number
  readonly tlsPort: number
  readonly pin: string
  readonly unknownClients: string
  readonly hostnamePattern: string
  readonly vdiskCount: number
  readonly clientCounts: Readonly<Record<ClientState, number>>
  readonly connectionCount: number
  readonly rssBytes: number
}

export interface ImportProgress {
  readonly stage: string
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface ImportResult {
  readonly vdisk: VDiskView
  readonly warnings: readonly string[]
}

export interface ErrorView {
  readonly code: ErrorCode
  readonly number: string
  readonly message: string
  readonly action: string
}

/** One line of a streamed answer; the last is a result or an error. */
export type AnswerLine<Progress, Result> =
  | { readonly progress: Progress }
  | { readonly result: Result }
  | { readonly error: ErrorView }
