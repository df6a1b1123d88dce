/** Whom the administrator admits beforehand: join tokens, and subnets for a while. */
import type { JoinGrants } from '#server/clients/join-grants.ts'
import { parseBody } from '#server/request-body.ts'
import type { JoinGrantRecord } from '#server/state/records.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { type JoinCreated, type JoinView, joinRequestSchema } from './admin-api.ts'
import type { Route } from './router.ts'

export interface JoinRoutesServices {
  readonly grants: JoinGrants
  readonly catalog: VDiskCatalog
}

export function joinRoutes(services: JoinRoutesServices): Route[] {
  const { grants } = services
  const viewOf = (record: JoinGrantRecord): JoinView => ({
    ...record,
    isOver: grants.isOver(record),
  })
  return [
    {
      method: 'GET',
      path: '/join',
      handle: async () => (await grants.list()).map(viewOf),
    },
    {
      method: 'POST',
      path: '/join',
      handle: async ({ body }): Promise<JoinCreated> => {
        const { subnet, seconds, uses, vdisks } = parseBody(joinRequestSchema, body)
        for (const name of vdisks) await services.catalog.get(name)
        const wish = { uses, untilMs: Date.now() + seconds * 1000, vdisks }
        if (subnet !== undefined) return { grant: viewOf(await grants.openSubnet(subnet, wish)) }
        const { token, record } = await grants.createToken(wish)
        return { grant: viewOf(record), token }
      },
    },
    {
      method: 'DELETE',
      path: '/join/:grant',
      handle: async ({ params }) => viewOf(await grants.remove(params['grant'] ?? '')),
    },
  ]
}
