/** The messages a session sends, made from records. Pure. */

import { kernelFilePaths } from '#server/boot/boot-paths.ts'
import type { ClientRecord, ClientState, VersionRecord } from '#server/state/records.ts'
import type { VersionReader } from '#server/store/chunk-store.ts'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import type { ClientSettings } from '#shared/identity/client-settings.ts'
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import type {
  Hydration,
  Identity,
  Offer,
  Opened,
  ServerMessage,
  WriteCacheSettings,
} from '#shared/wire/messages.ts'

/** Longest text of an error message on the wire (messages.ts). */
const TEXT_LENGTH_MAX = 1024

/** What is the same for all clients. */
export interface IdentitySettings {
  /** Makes enrolment codes. */
  readonly enrolSecret: Uint8Array
  /** The vDisk that whoever comes is given. */
  readonly vdiskForAnyone?: string | undefined
  /** Signs what a former key of the server has signed; without it all stays as it is. */
  readonly resign?: (signed: SignedRoot) => SignedRoot
  readonly serverName: string
  readonly menuSeconds: number
}

export interface IdentityFacts {
  readonly client: ClientRecord
  /** `client.state`, unless a running root must go on whatever became of its client. */
  readonly state: ClientState
  readonly offers: readonly Offer[]
  readonly withheld: number
  readonly isAuthenticated: boolean
  /** Shown while nobody has vouched for its key. */
  readonly enrolCode?: string | undefined
  readonly note?: string | undefined
  readonly settings?: ClientSettings | undefined
  readonly warning?: string | undefined
  readonly nowMs: number
}

export function identityMessage(facts: IdentityFacts, settings: IdentitySettings): Identity {
  const { client, state, withheld, isAuthenticated, enrolCode, note, nowMs } = facts
  const offers = state === 'approved' ? [...facts.offers] : []
  const remembered = offers.find(({ vdisk }) => vdisk === client.lastChoice)
  const defaultVdisk = (remembered ?? offers[0])?.vdisk
  return {
    kind: 'identity',
    state,
    clientId: client.id,
    hostname: client.hostname,
    machineId: client.machineId,
    serverName: settings.serverName,
    offers,
    ...(defaultVdisk !== undefined && { defaultVdisk }),
    menuSeconds: settings.menuSeconds,
    serverTimeMs: nowMs,
    ...(isAuthenticated && { isAuthenticated }),
    ...(enrolCode !== undefined && { enrolCode }),
    ...(note !== undefined && { note }),
    ...(facts.settings !== undefined && { settings: facts.settings }),
    ...(facts.warning !== undefined && { warning: facts.warning }),
    ...(state === 'approved' && withheld > 0 && { withheld }),
  }
}

/** What was set for a client and its vDisk. */
export interface StreamSettings {
  readonly hydration: Hydration
  readonly writeCache: WriteCacheSettings
}

export function openedMessage(
  version: VersionRecord,
  reader: Pick<VersionReader, 'storedBytes' | 'signedRoot'>,
  {
    hydration,
    writeCache,
    writes,
    resign = (it) => it,
  }: StreamSettings &
    Pick<IdentitySettings, 'resign'> & { readonly writes?: Opened['writes'] | undefined },
): Opened {
  const { kernel } = version
  const { record, signature, signerKey } = resign(reader.signedRoot)
  return {
    kind: 'opened',
    vdisk: version.vdisk,
    versionId: version.versionId,
    sizeBytes: version.sizeBytes,
    storedBytes: reader.storedBytes,
    manifest: {
      record: base64(record),
      signature: base64(signature),
      signerKey: base64(signerKey),
    },
    hydration,
    writeCache,
    ...(writes !== undefined && { writes }),
    root: version.root,
    ...(kernel !== undefined && {
      kernel: { id: kernel.id, release: kernel.release, ...kernelFilePaths(kernel.id) },
    }),
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}

/** Returns what a peer may know of a failure: nothing of the server's inside. */
export function errorMessage(error: unknown): ServerMessage & { readonly kind: 'error' } {
  const code: ErrorCode = error instanceof BootwireError ? error.code : 'INTERNAL'
  const message =
    error instanceof BootwireError ? error.message : 'The server failed; its log says how'
  return { kind: 'error', code, message: message.slice(0, TEXT_LENGTH_MAX) }
}
