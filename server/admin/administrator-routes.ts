/** Who may administer from afar, and what was changed by whom. */
import type { AccessTokens } from '#server/administrators/access-tokens.ts'
import type { AuditEntry, AuditLog } from '#server/administrators/audit-log.ts'
import { mayActAs } from '#server/administrators/roles.ts'
import { parseBody } from '#server/request-body.ts'
import type { AccessTokenRecord } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'
import {
  type AdministratorCreated,
  type AdministratorView,
  administratorRequestSchema,
} from './admin-api.ts'
import type { Route } from './router.ts'

/** Entries shown when nobody says how many. */
const AUDIT_SHOWN = 50
/** An answer is held in memory. */
const AUDIT_SHOWN_MAX = 10_000

export interface AdministratorRoutesServices {
  readonly tokens: AccessTokens
  readonly audit: Pick<AuditLog, 'list'>
}

export function administratorRoutes({ tokens, audit }: AdministratorRoutesServices): Route[] {
  const viewOf = ({ id, ...record }: AccessTokenRecord): AdministratorView => ({
    ...record,
    isOver: tokens.isOver({ id, ...record }),
  })
  return [
    {
      method: 'GET',
      path: '/administrators',
      handle: async () => (await tokens.list()).map(viewOf),
    },
    {
      method: 'POST',
      path: '/administrators',
      handle: async ({ body, caller }): Promise<AdministratorCreated> => {
        const { name, role, seconds } = parseBody(administratorRequestSchema, body)
        if (!mayActAs(caller.role, role)) {
          throw new BootwireError('PERMISSION_DENIED', `Cannot give away the role ${role}`)
        }
        const untilMs = seconds === undefined ? undefined : Date.now() + seconds * 1000
        const wish = { name, role, untilMs, createdBy: caller.name }
        const { token, record } = await tokens.create(wish)
        return { administrator: viewOf(record), token }
      },
    },
    {
      method: 'DELETE',
      path: '/administrators/:administrator',
      handle: async ({ params }) => viewOf(await tokens.remove(params['administrator'] ?? '')),
    },
    {
      method: 'GET',
      path: '/audit',
      handle: async ({ query }): Promise<AuditEntry[]> => {
        const limit = Number(query.get('limit') ?? AUDIT_SHOWN)
        if (!Number.isInteger(limit) || limit < 1 || limit > AUDIT_SHOWN_MAX) {
          throw new BootwireError(
            'INVALID_ARGUMENT',
            `Cannot show ${limit} changes: expected 1 to ${AUDIT_SHOWN_MAX}`,
          )
        }
        const by = query.get('by') ?? undefined
        return await audit.list({ limit, by, subject: query.get('subject') ?? undefined })
      },
    },
  ]
}
