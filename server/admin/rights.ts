/**
 * Who may do what, and what it is called in the audit log: one line per route. A route that is missing here
 * is the owner's alone, and audited under its path.
 *
 * Operators do the daily work: machines, and which version they get. Administrators decide what there is and
 * who may have it. What names a file on the server, or makes what could not be undone from afar, is for who
 * sits at the server.
 */
import type { Role } from '#server/administrators/roles.ts'
import type { Route } from './router.ts'

export interface Right {
  readonly role: Role
  /** Absent for what only looks: it is not audited. */
  readonly action?: string
}

export const RIGHTS: Readonly<Record<string, Right>> = {
  'GET /status': { role: 'viewer' },
  'GET /clients': { role: 'viewer' },
  'GET /clients/:client': { role: 'viewer' },
  'GET /boots': { role: 'viewer' },
  'GET /vdisks': { role: 'viewer' },
  'GET /vdisks/:name': { role: 'viewer' },
  'GET /vdisks/:name/versions': { role: 'viewer' },
  'GET /vdisks/:name/trace': { role: 'viewer' },
  'GET /key': { role: 'viewer' },
  'GET /join': { role: 'operator' },

  'POST /clients/:client/approve': { role: 'operator', action: 'client approve' },
  'POST /clients/:client/revoke': { role: 'operator', action: 'client revoke' },
  'POST /clients/:client/replace-key': { role: 'operator', action: 'client replace-key' },
  'POST /clients/:client/confirm': { role: 'operator', action: 'client confirm' },
  'POST /clients/:client/refuse': { role: 'operator', action: 'client refuse' },
  'POST /clients/:client/assign': { role: 'operator', action: 'client assign' },
  'POST /clients/:client/unassign': { role: 'operator', action: 'client unassign' },
  'POST /clients/:client/rename': { role: 'operator', action: 'client rename' },
  'POST /clients/:client/hydrate': { role: 'operator', action: 'client hydrate' },
  'POST /clients/:client/write-cache': { role: 'operator', action: 'client write-cache' },
  'POST /clients/:client/settings': { role: 'operator', action: 'client set' },
  'POST /clients/:client/discard-writes': { role: 'operator', action: 'client discard-writes' },
  'DELETE /clients/:client': { role: 'operator', action: 'client rm' },
  'POST /join': { role: 'operator', action: 'join' },
  'DELETE /join/:grant': { role: 'operator', action: 'join rm' },
  'POST /vdisks/:name/promote': { role: 'operator', action: 'vdisk promote' },
  'POST /vdisks/:name/rollback': { role: 'operator', action: 'vdisk rollback' },

  'POST /vdisks/upload': { role: 'administrator', action: 'vdisk import' },
  'POST /vdisks/:name/write-cache': { role: 'administrator', action: 'vdisk write-cache' },
  'POST /vdisks/:name/access': { role: 'administrator', action: 'vdisk access' },
  'POST /vdisks/:name/lint': { role: 'administrator', action: 'vdisk lint' },
  'DELETE /vdisks/:name/trace': { role: 'administrator', action: 'vdisk trace --forget' },
  'DELETE /vdisks/:name/versions/:version': { role: 'administrator', action: 'vdisk rm' },
  'DELETE /vdisks/:name': { role: 'administrator', action: 'vdisk rm' },
  /** All of an image, with what is secret in it. */
  'GET /vdisks/:name/content': { role: 'administrator', action: 'vdisk export' },
  'POST /store/check': { role: 'administrator', action: 'check' },
  'POST /store/gc': { role: 'administrator', action: 'gc' },
  'GET /audit': { role: 'administrator' },
  'GET /administrators': { role: 'administrator' },
  'POST /administrators': { role: 'administrator', action: 'admin add' },
  'DELETE /administrators/:administrator': { role: 'administrator', action: 'admin rm' },

  'GET /captures': { role: 'operator' },
  /** Makes a vDisk, as an upload does. */
  'POST /captures/:capture/approve': { role: 'administrator', action: 'capture approve' },
  'DELETE /captures/:capture': { role: 'operator', action: 'capture rm' },

  'POST /vdisks': { role: 'owner', action: 'vdisk import' },
  'POST /images/lint': { role: 'owner', action: 'vdisk lint' },
  'POST /key/roll-over': { role: 'owner', action: 'key roll-over' },
}

export function rightOf({ method, path }: Pick<Route, 'method' | 'path'>): Right {
  const name = `${method} ${path}`
  return RIGHTS[name] ?? { role: 'owner', action: name }
}
