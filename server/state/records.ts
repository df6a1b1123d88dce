/** What the database holds: one interface per kind of record, and the key each lies under. */
import type { TokenRole } from '#server/administrators/roles.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import type { KeyPlace } from '#shared/identity/device-key.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import type { Hydration, RootLocation, Status, WriteCacheSettings } from '#shared/wire/messages.ts'

/** `vdisk/<name>` */
export const VDISK_KEYS = 'vdisk/'
/** `version/<vDisk>/<version id>`: two vDisks made of the same image share what is stored. */
export const VERSION_KEYS = 'version/'
/** `lint/<version id>/<partition of the root>` */
export const LINT_KEYS = 'lint/'
/** `client/<id>` */
export const CLIENT_KEYS = 'client/'
/**
 * Indexes of the clients, changed in the same transaction as the record: each holds the id of the
 * client that has this MAC, SMBIOS UUID or host name, so that no two ever have the same one.
 */
export const CLIENT_MAC_KEYS = 'client-mac/'
export const CLIENT_UUID_KEYS = 'client-uuid/'
export const CLIENT_HOSTNAME_KEYS = 'client-hostname/'
/** `client-key/<fingerprint>`: the client that has proven this key, whether anybody vouches for it or not. */
export const CLIENT_KEY_KEYS = 'client-key/'
/** `client-stand-in/<id>`: the client that claims to be that one, and has not shown its key. */
export const CLIENT_STAND_IN_KEYS = 'client-stand-in/'
/** `join/<id>` */
export const JOIN_KEYS = 'join/'
/** `client-settings/<id>`: what it is told beside who it is, secrets among it. */
export const CLIENT_SETTINGS_KEYS = 'client-settings/'
/** `access-token/<SHA-256 of the token>` */
export const ACCESS_TOKEN_KEYS = 'access-token/'
/** `revoked-key/<fingerprint>` */
export const REVOKED_KEY_KEYS = 'revoked-key/'
/** `client-unconfirmed/<id>`: the clients that no administrator has decided about yet. */
export const CLIENT_UNCONFIRMED_KEYS = 'client-unconfirmed/'
/** Number of the next host name given by pattern. */
export const NEXT_HOSTNAME_NUMBER_KEY = 'next-hostname-number'
/** `boot/<client id>/<started at, 13 digits>-<boot id>`, so that a client's boots lie in order of time. */
export const BOOT_KEYS = 'boot/'

export interface VDiskRecord {
  readonly name: string
  readonly title: string
  readonly createdAtMs: number
  /** The version the next boots get. */
  readonly productionVersionId: string
  /** Which versions were in production, oldest first; the last is the one that is now. */
  readonly history: readonly ProductionChange[]
  /** Number of the next version; numbers are never given twice. */
  readonly nextNumber: number
  /** Where its clients keep what they write; what is absent is as by default. */
  readonly writeCache?: Partial<WriteCacheSettings>
  /** Whom it is given to: absent for machines that prove who they are, and nobody else. */
  readonly access?: 'anyone'
}

/** A version came into production. */
export interface ProductionChange {
  readonly versionId: string
  readonly number: number
  readonly atMs: number
  /** As the first version, by hand, or back after a later one. */
  readonly by: 'import' | 'promote' | 'rollback'
}

export interface VersionRecord {
  readonly versionId: string
  readonly vdisk: string
  /** Counts from 1 within its vDisk. */
  readonly number: number
  readonly createdAtMs: number
  readonly sizeBytes: number
  readonly storedBytes: number
  /** Of these, bytes that were in the store already when it was imported. */
  readonly sharedBytes: number
  readonly root: RootLocation
  /** PRETTY_NAME of the image's os-release. */
  readonly osName: string
  readonly kernel?: KernelRecord
}

/** What is in a version that its machines should not share. */
export interface LintRecord {
  /** Of the rules that made it. */
  readonly rules: number
  readonly report: LintReport
}

export interface KernelRecord {
  /** SHA-256 of the kernel image, hex. */
  readonly id: string
  readonly release: string
}

/** A key that a machine has proven to have. */
export interface DeviceKeyRecord {
  /** SHA-256 of its SubjectPublicKeyInfo, base64url. */
  readonly fingerprint: string
  readonly place: KeyPlace
  /** When it was vouched for, or first shown. */
  readonly sinceMs: number
}

/** A key that counts no more. */
export interface RevokedKeyRecord {
  readonly clientId: string
  readonly atMs: number
  /** Whether a system that runs is cut off, too. */
  readonly cut: boolean
}

/** Whom an administrator admits beforehand. */
export type JoinGrantRecord = {
  /** Of a token the beginning of its SHA-256. */
  readonly id: string
  /** How many machines at most; absent for any number. */
  readonly uses?: number
  readonly used: number
  readonly untilMs: number
  /** What is assigned to them. */
  readonly vdisks: readonly string[]
  readonly createdAtMs: number
} & ({ readonly kind: 'token' } | { readonly kind: 'subnet'; readonly subnet: string })

/** Somebody who may administer from afar. */
export interface AccessTokenRecord {
  /** SHA-256 of the token, hex. */
  readonly id: string
  readonly name: string
  readonly role: TokenRole
  readonly createdAtMs: number
  readonly createdBy: string
  /** Absent for no end. */
  readonly untilMs?: number
}

export interface SshHostKeyRecord {
  readonly privateKey: string
  readonly publicKey: string
}

/** What a client is told beside who it is. */
export interface ClientSettingsRecord {
  readonly values: Readonly<Record<string, { readonly value: string; readonly isSecret: boolean }>>
  readonly locale?: string
  readonly timezone?: string
  readonly keymap?: string
  readonly sshHostKey?: SshHostKeyRecord
}

export type ClientState = 'approved' | 'pending' | 'refused'

export interface ClientRecord {
  /** 16 hex digits. */
  readonly id: string
  readonly state: ClientState
  readonly hostname: string
  readonly machineId: string
  readonly facts: MachineFacts
  /** Names of vDisks in the order of the menu; the first is the default unless one was chosen before. */
  readonly assignments: readonly string[]
  readonly lastChoice?: string
  readonly firstSeenMs: number
  readonly lastSeenMs: number
  /** Address of the last connection. */
  readonly address?: string
  /** How the rest of its vDisk is fetched; absent until the administrator says. */
  readonly hydration?: Hydration
  /** By vDisk, the version over which something is kept for it: it boots that and no other. */
  readonly keptVersions?: Readonly<Record<string, string>>
  /** Where it keeps what it writes; what is absent is as its vDisk has it. */
  readonly writeCache?: Partial<WriteCacheSettings>
  /** By which it proves who it is: the administrator has vouched for it, or a policy. */
  readonly key?: DeviceKeyRecord
  /** One that it has, and nobody has vouched for. */
  readonly offeredKey?: DeviceKeyRecord
  /** The client that it may be: it has not shown that one's key, or has another network card or board. */
  readonly claimsToBe?: string
  /** What told that it is this client, or may be the one it claims to be: `same UUID (+4)`. */
  readonly knownBy?: readonly string[]
}

export interface BootRecord {
  readonly bootId: string
  readonly clientId: string
  readonly startedAtMs: number
  /** Milliseconds since 1970 by the server's clock. */
  readonly phases: readonly { readonly phase: BootPhase; readonly atMs: number }[]
  readonly vdisk?: string
  readonly versionId?: string
  /** Bytes of chunk frames and control messages sent to this client, both with their headers. */
  readonly wireBytes: number
  /** How it ended: clean (with what came next), lost (the connection is gone), or still running. */
  readonly end: 'running' | 'lost' | 'poweroff' | 'reboot' | 'halt' | 'kexec'
  readonly endedAtMs?: number
  /** How often the agent came back after its connection was lost; absent for never. */
  readonly reconnects?: number
  readonly lastStatus?: Omit<Status, 'kind'>
  readonly notices: readonly {
    readonly atMs: number
    readonly level: string
    readonly message: string
  }[]
}
