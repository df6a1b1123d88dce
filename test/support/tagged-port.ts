/**
 * A port of a switch that speaks one VLAN, tagged (IEEE 802.1Q), and nothing else: hosts without the kernel's
 * 8021q have none. A QEMU without a machine leads frames of a port of the LAN here; tags are put on and taken off
 * on the way to the machine. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'
import type { LanPort, StreamPort } from './virtual-machine.ts'

const TAG_TYPE = 0x8100
/** Addresses of receiver and sender. */
const ADDRESSES_BYTES = 12
const TAG_BYTES = 4

export class TaggedPort implements AsyncDisposable {
  /** For the machine. */
  readonly port: StreamPort
  /** Frames of the machine that were dropped: without a tag, or with another. */
  dropped = 0
  readonly #folder: TemporaryFolder
  readonly #hub: ChildProcess
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(folder: TemporaryFolder, hub: ChildProcess, server: Server) {
    this.#folder = folder
    this.#hub = hub
    this.#server = server
    this.port = { stream: join(folder.path, 'machine') }
  }

  static async open(port: LanPort, vlan: number): Promise<TaggedPort> {
    const folder = await createTemporaryFolder()
    const hubPath = join(folder.path, 'hub')
    const netdevs = [
      `tap,id=tap,ifname=${port.tap},script=no,downscript=no,vnet_hdr=off`,
      `stream,id=stream,server=on,addr.type=unix,addr.path=${hubPath}`,
      'hubport,id=h1,hubid=1,netdev=tap',
      'hubport,id=h2,hubid=1,netdev=stream',
    ]
    const qemu = ['qemu-system-x86_64', '-machine', 'none', '-nodefaults', '-display', 'none']
    const options = netdevs.flatMap((netdev) => ['-netdev', netdev])
    const [program = '', ...args] = port.command([
      'setpriv',
      '--pdeathsig',
      'KILL',
      ...qemu,
      ...options,
    ])
    const hub = spawn(program, args, { stdio: 'inherit' })
    const server = createServer()
    const tagged = new TaggedPort(folder, hub, server)
    server.on('connection', (machine) => tagged.#join(machine, hubPath, vlan))
    server.listen(tagged.port.stream)
    await once(server, 'listening')
    await eventually('the hub is there', () => canConnect(hubPath), 10_000)
    return tagged
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    this.#hub.kill('SIGKILL')
    await once(this.#hub, 'exit')
    await this.#folder[Symbol.asyncDispose]()
  }

  #join(machine: Socket, hubPath: string, vlan: number): void {
    const hub = connect(hubPath)
    for (const socket of [machine, hub]) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.once('close', () => {
        machine.destroy()
        hub.destroy()
      })
    }
    onFrames(machine, (frame) => {
      const untagged = withoutTag(frame, vlan)
      if (untagged === undefined) this.dropped += 1
      else send(hub, untagged)
    })
    onFrames(hub, (frame) => send(machine, withTag(frame, vlan)))
  }
}

/** Each frame has its length before it (QEMU's netdev "stream"). */
function onFrames(socket: Socket, handle: (frame: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0)
      handle(rest.subarray(4, end))
      rest = rest.subarray(end)
    }
  })
}

function send(socket: Socket, frame: Buffer): void {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(frame.length)
  socket.write(Buffer.concat([length, frame]))
}

function withoutTag(frame: Buffer, vlan: number): Buffer | undefined {
  const isTagged =
    frame.length >= ADDRESSES_BYTES + TAG_BYTES &&
    frame.readUInt16BE(ADDRESSES_BYTES) === TAG_TYPE &&
    (frame.readUInt16BE(ADDRESSES_BYTES + 2) & 0xfff) === vlan
  if (!isTagged) return undefined
  return Buffer.concat([
    frame.subarray(0, ADDRESSES_BYTES),
    frame.subarray(ADDRESSES_BYTES + TAG_BYTES),
  ])
}

function withTag(frame: Buffer, vlan: number): Buffer {
  const tag = Buffer.alloc(TAG_BYTES)
  tag.writeUInt16BE(TAG_TYPE, 0)
  tag.writeUInt16BE(vlan, 2)
  return Buffer.concat([frame.subarray(0, ADDRESSES_BYTES), tag, frame.subarray(ADDRESSES_BYTES)])
}

async function canConnect(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
