/**
 * What the server tells of this client, as files for the system (ARCHITECTURE.md has the table). What is
 * secret is root's alone: each setting is a systemd credential, found by `LoadCredential=bootwire.NAME` in
 * /run/credstore (systemd.exec(5)), and handed to PID 1 as the initrd's (`/run/credentials/@initrd`).
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Identity } from '#shared/wire/messages.ts'
import type { RunFolder } from './run-folder.ts'
import { quoteForShell, renderAssignments } from './shell-assignments.ts'

/** A digest of what was written last. */
const DIGEST = 'settings-digest'
/** Is there while the running system has not taken what was written last. */
const PENDING = 'settings-pending'

const PREFIX = 'bootwire.'
const SECRET_MODE = 0o600
const FOLDER_MODE = 0o700

/** Returns whether anything was new. `runPath` is only given by tests. */
export function writeClientSettings(
  runFolder: RunFolder,
  { hostname, isAuthenticated, settings }: Identity,
  runPath = '/run',
): boolean {
  if (settings === undefined) return false // an older server
  const digest = digestOf([hostname, isAuthenticated === true, settings])
  const before = runFolder.read(DIGEST)
  if (before?.trim() === digest) return false
  const { values, locale = '', timezone = '', keymap = '', sshHostKey } = settings
  runFolder.write(
    'system.env',
    renderAssignments({
      CLIENT_HOSTNAME: hostname,
      CLIENT_AUTHENTICATED: isAuthenticated === true ? 'yes' : '',
      LOCALE: locale,
      TIMEZONE: timezone,
      KEYMAP: keymap,
    }),
  )
  const open = values.filter(({ isSecret }) => isSecret !== true)
  runFolder.write('settings', open.map((it) => `${it.name}=${quoteForShell(it.value)}\n`).join(''))
  runFolder.write('ssh-host-key.pub', sshHostKey?.publicKey ?? '')
  runFolder.write('ssh-host-key', sshHostKey?.privateKey ?? '', SECRET_MODE)
  writeCredentials(join(runPath, 'credstore'), values)
  // PID 1 takes them once, when it starts; one that does not know of them leaves them there.
  const initrd = join(runPath, 'credentials', '@initrd')
  if (before === undefined || existsSync(initrd)) writeCredentials(initrd, values)
  runFolder.write(DIGEST, `${digest}\n`)
  // Before a system runs, /init takes it.
  if (before !== undefined) runFolder.write(PENDING, '')
  return true
}

/** Another folder in the place of the one before: none that was taken back stays. */
function writeCredentials(
  folder: string,
  values: NonNullable<Identity['settings']>['values'],
): void {
  const next = `${folder}.new`
  rmSync(next, { recursive: true, force: true })
  // Through the one around it, services of any user find their own.
  mkdirSync(dirname(folder), { recursive: true })
  mkdirSync(next, { mode: FOLDER_MODE })
  for (const { name, value } of values) {
    writeFileSync(join(next, PREFIX + name), value, { mode: SECRET_MODE })
  }
  rmSync(folder, { recursive: true, force: true })
  renameSync(next, folder)
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}
