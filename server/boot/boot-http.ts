import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Log } from '#server/log.ts'
import { peerAddress } from '#server/peer-address.ts'
import type { BootFiles } from './boot-files.ts'
import type { BootPlanner } from './boot-plan.ts'
export interface BootHttpDeps extends BootPlanner {
  readonly pin: string
  readonly tlsPort: number
  readonly agentImagePath: string
  readonly bootFiles: BootFiles
  readonly log: Log
}
export function createBootHandler(
  deps: BootHttpDeps,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const url = new URL(request.url ?? '/', 'http://x')
    if (url.pathname !== '/boot') {
      response.writeHead(404).end()
      return
    }
    const facts = Object.fromEntries(url.searchParams)
    void deps
      .planBoot(facts, peerAddress(request.socket))
      .then((plan) => response.end(JSON.stringify(plan)))
  }
}
