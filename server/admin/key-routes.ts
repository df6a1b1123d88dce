/** The server's own key. */
import type { Route } from './router.ts'

export interface KeyRoutesServices {
  readonly server: { readonly pin: string }
  /** Makes the key of the next start, and returns its pin. */
  readonly rollOver: () => Promise<string>
}

export interface KeyView {
  readonly pin: string
  /** From the next start on. */
  readonly nextPin?: string
}

export function keyRoutes({ server, rollOver }: KeyRoutesServices): Route[] {
  return [
    { method: 'GET', path: '/key', handle: async (): Promise<KeyView> => ({ pin: server.pin }) },
    {
      method: 'POST',
      path: '/key/roll-over',
      handle: async (): Promise<KeyView> => ({ pin: server.pin, nextPin: await rollOver() }),
    },
  ]
}
