/** Listening on a TCP port, with failures a person can act on. */
import type { AddressInfo, Server } from 'node:net'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'

export interface Endpoint {
  readonly address: string
  /** 0 takes any free port. */
  readonly port: number
  /** Option that sets the port, for messages. */
  readonly option: string
}

/** Returns the port listened on. @throws {BootwireError} PORT_TAKEN, PERMISSION_DENIED, INVALID_ARGUMENT */
export async function listen(server: Server, endpoint: Endpoint): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error) => reject(listenFailure(endpoint, error))
    server.once('error', onError)
    server.listen({ host: endpoint.address, port: endpoint.port }, () => {
      server.off('error', onError)
      resolve()
    })
  })
  const bound = server.address()
  invariant(bound !== null && typeof bound === 'object', 'a TCP server has an address')
  return (bound satisfies AddressInfo).port
}

function listenFailure({ address, port, option }: Endpoint, error: Error): BootwireError {
  const code = 'code' in error ? error.code : undefined
  const what = `Cannot listen on ${address} port ${port} (${option})`
  if (code === 'EADDRINUSE') {
    return new BootwireError('PORT_TAKEN', `${what}: another program has it`, { cause: error })
  }
  if (code === 'EACCES') {
    return new BootwireError(
      'PERMISSION_DENIED',
      `${what}: ports below 1024 are for root, expected 1024 or more`,
      { cause: error },
    )
  }
  return new BootwireError('INVALID_ARGUMENT', `${what}: ${error.message}`, { cause: error })
}
