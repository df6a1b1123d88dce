/**
 * Serves a connected socket that somebody else set up: its other end is in the transmission phase
 * from the first byte on, with simple replies. That is how the kernel's NBD client is served.
 */
import { fstatSync } from 'node:fs'
import type { Socket } from 'node:net'
import type { Export } from './block-device.ts'
import { checkExport } from './check-export.ts'
import { type NbdConnection, WorkerConnection } from './connection.ts'
import { NOTHING_NEGOTIATED } from './export-facts.ts'
import { endDescriptor } from './socket-descriptor.ts'
import { type WorkerFiles, workerFilesBeside } from './worker-files.ts'
import { WorkerPool } from './worker-pool.ts'

export interface ServeDescriptorOptions {
  /** A blocking stream socket; it belongs to the connection, which closes it in the end. */
  readonly fd: number
  readonly export: Export
  /** Default: the files beside this one. */
  readonly workers?: WorkerFiles
}

/** @throws {TypeError} when the descriptor is no socket */
export function serveDescriptor(options: ServeDescriptorOptions): NbdConnection {
  checkExport(options.export)
  const { fd } = options
  if (!fstatSync(fd).isSocket()) {
    throw new TypeError(`Cannot serve descriptor ${fd}: expected a connected stream socket`)
  }
  const files = options.workers ?? workerFilesBeside()
  let socket: Socket | undefined
  return new WorkerConnection({
    fd,
    export: options.export,
    negotiated: NOTHING_NEGOTIATED,
    early: new Uint8Array(0),
    pools: {
      transmission: new WorkerPool(files.transmission, 0),
      reply: new WorkerPool(files.reply, 0),
    },
    hangUp: () => {
      socket = endDescriptor(fd)
    },
    release: () => socket?.destroy(),
  })
}
