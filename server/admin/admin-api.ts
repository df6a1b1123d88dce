/** What goes over the administration socket: the JSON both the server and the CLI know. */
import * as v from 'valibot'
import { TOKEN_ROLES } from '#server/administrators/roles.ts'
import type { SettingsView } from '#server/clients/settings-store.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import type {
  AccessTokenRecord,
  BootRecord,
  ClientRecord,
  ClientState,
  JoinGrantRecord,
  VDiskRecord,
  VersionRecord,
} from '#server/state/records.ts'
import type { CheckReport } from '#server/store/chunk-store.ts'
import type { TraceOrigin } from '#server/traces/boot-trace.ts'
import type { ImportOutcome } from '#server/vdisks/new-version.ts'
import type { ErrorCode } from '#shared/errors.ts'
import { settingName, settingValue } from '#shared/identity/client-settings.ts'
import { ASSIGNMENTS_MAX, NAME_LENGTH_MAX } from '#shared/wire/limits.ts'
import type { Hydration } from '#shared/wire/messages.ts'

/** Of who asks on the server itself, for the audit log. */
export const CALLER_HEADER = 'bootwire-user'

const PATH_LENGTH_MAX = 4096

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(NAME_LENGTH_MAX))
const vdisks = v.pipe(v.array(name), v.maxLength(ASSIGNMENTS_MAX))

/** What an import is told beside its image. */
export const importOptionsSchema = v.object({
  name,
  /** Absent to keep the title there is. */
  title: v.optional(v.pipe(v.string(), v.maxLength(120))),
  /** 1-based; absent to have it found. */
  rootPartition: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(128))),
  /** Whom the vDisk is given to; absent to leave it as it is. */
  access: v.optional(v.picklist(['anyone', 'authenticated'])),
  /** Accept an image without a kernel: it runs on the default boot kernel. */
  kernelOptional: v.optional(v.boolean(), false),
  /** The next boots get it at once, also when it is not the first version. */
  promote: v.optional(v.boolean(), false),
})
export type ImportOptions = v.InferInput<typeof importOptionsSchema>

export const importRequestSchema = v.object({
  ...importOptionsSchema.entries,
  /** Absolute path on the server. */
  path: v.pipe(v.string(), v.startsWith('/'), v.maxLength(PATH_LENGTH_MAX)),
})
export type ImportRequest = v.InferInput<typeof importRequestSchema>

/** An image on the server that is no vDisk yet. */
export const lintRequestSchema = v.object({
  path: importRequestSchema.entries.path,
  rootPartition: importOptionsSchema.entries.rootPartition,
})
export type LintRequest = v.InferInput<typeof lintRequestSchema>

/** A number, or the beginning of an id. */
export const promoteRequestSchema = v.object({
  version: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
})

export const checkRequestSchema = v.object({
  /** Part of the data that is read and hashed, 0 to 1. */
  readDataShare: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0),
  repair: v.optional(v.boolean(), false),
})
export type CheckRequest = v.InferInput<typeof checkRequestSchema>

export const hydrateRequestSchema = v.object({
  mode: v.optional(v.picklist(['off', 'run', 'pause'])),
  /** Bytes per second; 0 for no limit. */
  rateBytesPerSecond: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER)),
  ),
})
export type HydrateRequest = v.InferInput<typeof hydrateRequestSchema>

/** What is null is taken back, what is absent stays. */
export const writeCacheRequestSchema = v.object({
  place: v.optional(v.nullable(v.picklist(['auto', 'ram', 'disk', 'server']))),
  isKept: v.optional(v.nullable(v.boolean())),
  limitBytes: v.optional(
    v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER))),
  ),
})
export type WriteCacheRequest = v.InferInput<typeof writeCacheRequestSchema>

/** What is null is taken back, what is absent stays. */
export const settingsRequestSchema = v.object({
  values: v.optional(
    v.record(settingName, v.nullable(v.object({ value: settingValue, isSecret: v.boolean() }))),
    {},
  ),
  locale: v.optional(v.nullable(v.string())),
  timezone: v.optional(v.nullable(v.string())),
  keymap: v.optional(v.nullable(v.string())),
})
export type SettingsRequest = v.InferInput<typeof settingsRequestSchema>

export const accessRequestSchema = v.object({ access: v.picklist(['anyone', 'authenticated']) })

export const discardWritesRequestSchema = v.object({ vdisk: name })

export const approveRequestSchema = v.object({
  vdisks: v.optional(vdisks, []),
  /** Vouch for the key it shows without comparing a code. */
  trustKey: v.optional(v.boolean(), false),
})
export const joinRequestSchema = v.object({
  /** Absent for a token. */
  subnet: v.optional(v.pipe(v.string(), v.maxLength(64))),
  /** Machines at most; absent for any number. */
  uses: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000_000))),
  /** How long from now. */
  seconds: v.pipe(v.number(), v.integer(), v.minValue(1)),
  vdisks: v.optional(vdisks, []),
})
export type JoinRequest = v.InferInput<typeof joinRequestSchema>

export const administratorRequestSchema = v.object({
  name,
  role: v.picklist(TOKEN_ROLES),
  /** How long from now; absent for no end. */
  seconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
})
export type AdministratorRequest = v.InferInput<typeof administratorRequestSchema>

export const revokeRequestSchema = v.object({
  /** Also what runs right now. */
  cut: v.optional(v.boolean(), false),
})
export const replaceKeyRequestSchema = v.object({
  /** The code on the machine's screen, or what else names the client that claims to be this one. */
  by: name,
})
export const assignRequestSchema = v.object({
  vdisks: v.pipe(vdisks, v.minLength(1)),
  /** Replace what was assigned. */
  only: v.optional(v.boolean(), false),
})
export const unassignRequestSchema = v.object({ vdisks: v.pipe(vdisks, v.minLength(1)) })
export const renameRequestSchema = v.object({ hostname: v.string() })

export type JoinView = JoinGrantRecord & { readonly isOver: boolean }

/** The token is told this once. */
export interface JoinCreated {
  readonly grant: JoinView
  readonly token?: string
}

export type AdministratorView = Omit<AccessTokenRecord, 'id'> & { readonly isOver: boolean }

/** The token is told this once. */
export interface AdministratorCreated {
  readonly administrator: AdministratorView
  readonly token: string
}

export interface VersionView extends VersionRecord {
  readonly isInProduction: boolean
  /** Sessions that read it right now. */
  readonly sessionCount: number
}

export interface VDiskView extends VDiskRecord {
  /** Newest first. */
  readonly versions: readonly VersionView[]
  /** Ids of the clients it is assigned to. */
  readonly clientIds: readonly string[]
  /** Sessions that read it right now. */
  readonly sessionCount: number
}

/** `waiting`: connected, no vDisk open yet. `streaming`: runs on its vDisk. */
export type Connection = 'off' | 'waiting' | 'streaming'

export interface ClientView extends ClientRecord {
  readonly connection: Connection
  readonly hydration: Hydration
  /** Whether the machine that is connected has proven to be this client. */
  readonly isAuthenticated: boolean
  /** What its screen shows while nobody has vouched for its key. */
  readonly enrolCode?: string
}

export interface ClientDetails extends ClientView {
  /** Newest first. */
  readonly boots: readonly BootRecord[]
  readonly settings: SettingsView
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
  readonly version: VersionView
  readonly outcome: ImportOutcome
  /** How the image was read: raw, qcow2, … */
  readonly format: string
  readonly warnings: readonly string[]
  /** What its machines should not share; absent when that could not be found out. */
  readonly lint?: LintReport
}

export interface LintView extends LintReport {
  /** What was looked into: `debian@2`, or the path of an image. */
  readonly subject: string
}

export interface PromotionView {
  readonly version: VersionView
  /** What was in production; the same when nothing changed, absent when it is removed. */
  readonly before?: VersionRecord
}

export interface CheckView extends Omit<CheckReport, 'damages' | 'incompleteIds'> {
  /** Versions whose images are to be imported again after a repair, as `debian@3`. */
  readonly incomplete: readonly string[]
  readonly damages: readonly {
    readonly text: string
    /** Versions that cannot be read whole, as `debian@3`. */
    readonly versions: readonly string[]
  }[]
}

export interface ErrorView {
  readonly code: ErrorCode
  readonly number: string
  readonly message: string
  readonly action: string
}

/** What a boot of a version is expected to read. */
export interface TraceView {
  readonly vdisk: string
  readonly number: number
  readonly versionId: string
  readonly sizeBytes: number
  readonly source: TraceOrigin | 'none'
  /** Traces it is made of, by hardware model. */
  readonly boots: readonly { readonly model: string; readonly count: number }[]
  /** In the order in which they are sent. */
  readonly chunks: readonly {
    /** First block. */
    readonly position: number
    readonly blocks: number
    readonly storedBytes: number
    /** When it is first read, after the vDisk was attached. */
    readonly atMs: number
  }[]
}

/** How far a check or a collection is. */
export type StoreProgress = ImportProgress

/** One line of a streamed answer; the last is a result or an error. */
export type AnswerLine<Progress, Result> =
  | { readonly progress: Progress }
  | { readonly result: Result }
  | { readonly error: ErrorView }
