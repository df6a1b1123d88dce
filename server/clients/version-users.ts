/**
 * The clients whose root is, or may still be, on a version. Their sessions alone do not tell: a client
 * whose network or server is away runs on, waits, and wants the same version when it comes back.
 */
import type { BootRecord } from '#server/state/records.ts'

/**
 * A boot whose connection was lost may be a machine that was unplugged, or one that waits for its
 * network. For a day it is taken for the latter; a weekend's waiting would mean that nothing could be
 * removed for days after a power cut, and --force is there for who knows better.
 */
export const LOST_BOOT_GRACE_MS: number = 24 * 3_600_000

export interface VersionUser {
  readonly clientId: string
  /** `lost`: the connection is gone, and nothing said that the system has shut down. */
  readonly state: 'running' | 'lost'
  /** When the connection was lost. */
  readonly lostAtMs?: number
}

/**
 * Returns who uses the version, by the last boot of each client: one that came later proves that the
 * former is over. `boots` are in order of time.
 */
export function versionUsers(
  boots: readonly BootRecord[],
  { vdisk, versionId }: { readonly vdisk: string; readonly versionId: string },
  nowMs: number,
): VersionUser[] {
  const last = new Map(boots.map((boot) => [boot.clientId, boot]))
  return [...last.values()]
    .filter((boot) => boot.vdisk === vdisk && boot.versionId === versionId)
    .flatMap((boot) => userOf(boot, nowMs))
}

function userOf({ clientId, end, endedAtMs = 0 }: BootRecord, nowMs: number): VersionUser[] {
  if (end === 'running') return [{ clientId, state: 'running' }]
  const isRecent = nowMs - endedAtMs < LOST_BOOT_GRACE_MS
  return end === 'lost' && isRecent ? [{ clientId, state: 'lost', lostAtMs: endedAtMs }] : []
}
