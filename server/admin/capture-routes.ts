/** Machines that want to send their disk: who approves makes a vDisk of it. */
import type { Captures } from '#server/capture/captures.ts'
import { parseBody } from '#server/request-body.ts'
import { importOptionsSchema } from './admin-api.ts'
import type { Route } from './router.ts'

export interface CaptureRoutesServices {
  readonly captures: Pick<Captures, 'list' | 'approve' | 'remove'>
}

export function captureRoutes({ captures }: CaptureRoutesServices): Route[] {
  return [
    { method: 'GET', path: '/captures', handle: () => Promise.resolve(captures.list()) },
    {
      method: 'POST',
      path: '/captures/:capture/approve',
      handle: async ({ params, body }) =>
        await captures.approve(params['capture'] ?? '', parseBody(importOptionsSchema, body)),
    },
    {
      method: 'DELETE',
      path: '/captures/:capture',
      handle: async ({ params }) => await captures.remove(params['capture'] ?? ''),
    },
  ]
}
