/** An NBD server over a memory device with a cold side, on a unix socket of its own. */
import { join } from 'node:path'
import type { ColdDevice, Export } from '#agent/node-nbd/index.ts'
import { type ConnectionEnd, NbdServer, type NbdServerOptions } from '#agent/node-nbd/index.ts'
import { createMemoryDevice, type MemoryDeviceData } from './nbd-memory-device.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export const HOT_MODULE: string = new URL('./nbd-memory-device.ts', import.meta.url).href

export interface NbdFixture extends AsyncDisposable {
  readonly server: NbdServer
  readonly socketPath: string
  readonly uri: string
  readonly data: MemoryDeviceData
  readonly memory: Buffer
  /** A byte per block of 4 KiB: 1 sends its requests to the cold device. */
  readonly absent: Uint8Array
  /** How connections ended, in that order. */
  readonly ends: ConnectionEnd[]
  /** Hot devices that were closed. */
  closedDevices(): number
}

export interface NbdFixtureOptions {
  readonly sizeBytes?: number
  readonly readOnly?: boolean
  /** Does what the memory says, at once, unless the test has something else in mind. */
  readonly cold?: Partial<ColdDevice>
  readonly exports?: (disk: Export) => readonly Export[]
  readonly server?: Partial<
    Pick<NbdServerOptions, 'connectionsMax' | 'handshakeTimeoutMs' | 'transmission'>
  >
}

export async function startNbdServer(options: NbdFixtureOptions = {}): Promise<NbdFixture> {
  const folder = await createTemporaryFolder()
  const socketPath = join(folder.path, 'nbd.sock')
  const sizeBytes = options.sizeBytes ?? 4 * 1024 * 1024
  const data = createMemoryDevice(sizeBytes)
  const memory = Buffer.from(data.memory)
  const ends: ConnectionEnd[] = []
  const disk: Export = {
    name: 'disk',
    description: 'a disk',
    sizeBytes,
    readOnly: options.readOnly ?? false,
    minimumBlockBytes: 512,
    preferredBlockBytes: 4096,
    maximumBlockBytes: 32 * 1024 * 1024,
    hot: { moduleUrl: HOT_MODULE, data },
    cold: { ...memoryColdDevice(memory), ...options.cold },
  }
  const server = await NbdServer.listen({
    socketPath,
    exports: options.exports?.(disk) ?? [disk],
    onConnectionEnd: (end) => ends.push(end),
    ...options.server,
  })
  return {
    server,
    socketPath,
    uri: `nbd+unix:///disk?socket=${socketPath}`,
    data,
    memory,
    absent: new Uint8Array(data.absent),
    ends,
    closedDevices: () => new Int32Array(data.counts)[1] ?? 0,
    [Symbol.asyncDispose]: async () => {
      await server.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}

function memoryColdDevice(memory: Buffer): ColdDevice {
  return {
    read: async (offset, target) => target.set(memory.subarray(offset, offset + target.length)),
    write: async (offset, bytes) => memory.set(bytes, offset),
    flush: async () => {},
    trim: async (offset, length) => void memory.fill(0, offset, offset + length),
    writeZeroes: async (offset, length) => void memory.fill(0, offset, offset + length),
  }
}
