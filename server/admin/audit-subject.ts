/** What a request is about, by the parts of its path: looked at before and after, for the audit log. */
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { type ClientRoutesServices, findClient } from './client-routes.ts'

export interface AuditSubject {
  readonly name: string
  /** As it is now; undefined when there is none. */
  readonly read: () => Promise<unknown>
}

export type SubjectFinder = (
  params: Readonly<Record<string, string>>,
) => Promise<AuditSubject | undefined>

/** Returns how subjects are found; what is not there is found by the request itself, with words. */
export function subjectFinder(
  services: ClientRoutesServices & { readonly catalog: VDiskCatalog },
): SubjectFinder {
  return async ({ client, name, grant, administrator }) => {
    if (client !== undefined) {
      const { id, hostname } = await findClient(services, client)
      return { name: hostname, read: () => clientNow(services, id) }
    }
    if (name !== undefined) return { name, read: () => vdiskNow(services.catalog, name) }
    const other = grant ?? administrator
    return other === undefined ? undefined : { name: other, read: async () => undefined }
  }
}

/** With its settings, of which secrets are but names. */
async function clientNow(
  { registry, clientSettings }: ClientRoutesServices,
  id: string,
): Promise<unknown> {
  const client = await registry.get(id)
  return client && { ...client, ...(await clientSettings.view(id)) }
}

async function vdiskNow(catalog: VDiskCatalog, name: string): Promise<unknown> {
  const vdisk = await catalog.tryGet(name)
  if (vdisk === undefined) return undefined
  const { versions, ...record } = vdisk
  return { ...record, versions: versions.map(({ number }) => number) }
}

/** The fields that differ, of each; nothing when none does. */
export function differences(
  before: unknown,
  after: unknown,
): { readonly before?: unknown; readonly after?: unknown } {
  const earlier = fieldsOf(before)
  const later = fieldsOf(after)
  const names = new Set([...Object.keys(earlier), ...Object.keys(later)])
  const changed = [...names].filter((name) => !isSame(earlier[name], later[name]))
  if (changed.length === 0) return {}
  return { before: pick(earlier, changed), after: pick(later, changed) }
}

/** The same without values that are not said to be for everybody: a mistaken request may hold a secret, too. */
export function withoutSecrets(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(withoutSecrets)
  const entries = Object.entries(value).map(([name, part]) => [name, withoutSecrets(part)])
  const fields = Object.fromEntries(entries) as Record<string, unknown>
  const isOpen = !('value' in fields) || fields['isSecret'] === false
  return isOpen ? fields : { isSecret: true }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

function pick(fields: Record<string, unknown>, names: readonly string[]): Record<string, unknown> {
  const present = names.filter((name) => fields[name] !== undefined)
  return Object.fromEntries(present.map((name) => [name, fields[name]]))
}
