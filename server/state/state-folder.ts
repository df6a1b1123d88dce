/** Where the server keeps everything: the folder given with --state, and what lies in it. */
import { mkdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { BootwireError } from '#shared/errors.ts'

/** Longest path a unix socket may have (sockaddr_un.sun_path without its final zero byte). */
const SOCKET_PATH_BYTES_MAX = 107

/** systemd's folder when there is one, /var/lib for root, else below the user's home. */
export function defaultStateFolder(): string {
  // systemd gives several folders separated by colons when a unit has several.
  const fromSystemd = process.env['STATE_DIRECTORY']?.split(':')[0]
  if (fromSystemd !== undefined && fromSystemd !== '') return fromSystemd
  return process.getuid?.() === 0
    ? '/var/lib/bootwire'
    : join(homedir(), '.local', 'state', 'bootwire')
}

export function databaseFolder(stateFolder: string): string {
  return join(stateFolder, 'db')
}

export function storeFolder(stateFolder: string): string {
  return join(stateFolder, 'store')
}

/** Images that are being unpacked for their import. */
export function spoolFolder(stateFolder: string): string {
  return join(stateFolder, 'spool')
}

/** What the boots of each version read. */
export function tracesFolder(stateFolder: string): string {
  return join(stateFolder, 'traces')
}

/** Disks of machines on their way to become vDisks. */
export function capturesFolder(stateFolder: string): string {
  return join(stateFolder, 'captures')
}

/** What clients have written over vDisks. */
export function writesFolder(stateFolder: string): string {
  return join(stateFolder, 'writes')
}

/** Who changed what. */
export function auditFolder(stateFolder: string): string {
  return join(stateFolder, 'audit')
}

/** @throws {BootwireError} INVALID_ARGUMENT when the path is too long for a socket. */
export function adminSocketPath(stateFolder: string): string {
  const path = join(stateFolder, 'admin.sock')
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use state folder "${stateFolder}": the path of its socket is longer than ${SOCKET_PATH_BYTES_MAX} bytes`,
    )
  }
  return path
}

/** Makes the folder, readable by its owner only, unless it is there. */
export async function ensureStateFolder(stateFolder: string): Promise<void> {
  try {
    await mkdir(stateFolder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new BootwireError(
      'STATE_UNREADABLE',
      `Cannot make state folder "${stateFolder}": ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    )
  }
}
