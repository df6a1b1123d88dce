/**
 * Everything a demo boot needs, made or found: the vDisk's image, the initramfs, a server that has
 * imported the image, and the fastest way to run a machine here. What is built is kept in `.cache`.
 */
import { createHash } from 'node:crypto'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ClientView, VDiskView } from '#server/admin/admin-api.ts'
import { nameOfFile } from '#server/cli/import-command.ts'
import { formatBytes } from '#shared/units.ts'
import { type Accelerator, chooseAccelerator } from '#test/support/accelerator.ts'
import { ensureAgentImage } from '#test/support/agent-image.ts'
import { CACHE_FOLDER } from '#test/support/build-cache.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { type ServerProcess, startServerProcess } from '#test/support/server-process.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'

/** Tells a person what happens, one line each. */
export type Say = (line: string) => void

interface SourceImage {
  readonly path: string
  /** Name of its vDisk; another image never has the same. */
  readonly vdisk: string
  readonly title: string
  readonly sizeBytes: number
}

const DEMO_FOLDER = join(CACHE_FOLDER, 'demo')
const STATE_FOLDER = join(DEMO_FOLDER, 'state')
const SERVER_LOG = join(CACHE_FOLDER, 'logs', 'demo-server.log')

/** Characters of an image's name that stand in its vDisk's. */
const NAME_LENGTH_MAX = 40

export class DemoStage implements AsyncDisposable {
  readonly server: ServerProcess
  readonly accelerator: Accelerator
  /** Name of the vDisk that the machine boots. */
  readonly vdisk: string
  readonly imageBytes: number
  readonly initramfsBytes: number

  private constructor(parts: {
    readonly server: ServerProcess
    readonly accelerator: Accelerator
    readonly vdisk: string
    readonly imageBytes: number
    readonly initramfsBytes: number
  }) {
    this.server = parts.server
    this.accelerator = parts.accelerator
    this.vdisk = parts.vdisk
    this.imageBytes = parts.imageBytes
    this.initramfsBytes = parts.initramfsBytes
  }

  static async prepare(disk: string | undefined, say: Say): Promise<DemoStage> {
    const image = disk === undefined ? await ownSystem(say) : await imageOfUser(disk)
    const initramfs = await ensureAgentImage(() => say('building the initramfs with the agent'))
    say(`starting a server; its state is in ${STATE_FOLDER}`)
    await using opened = new AsyncDisposableStack()
    const server = await startServerProcess(
      STATE_FOLDER,
      '--unknown-clients',
      `vdisk:${image.vdisk}`,
    )
    opened.defer(() => stopServer(server))
    const vdisk = await ensureImported(server, image, say)
    await assignToKnownClients(server, vdisk.name)
    const [version] = vdisk.versions
    const accelerator = await chooseAccelerator(kernelOf(vdisk))
    const how = accelerator === 'kvm' ? 'KVM' : 'an emulated processor, since KVM cannot be used'
    say(`booting ${version?.osName ?? image.title} on ${how}`)
    const { size: initramfsBytes } = await stat(initramfs)
    opened.move()
    return new DemoStage({
      server,
      accelerator,
      vdisk: vdisk.name,
      imageBytes: image.sizeBytes,
      initramfsBytes,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stopServer(this.server)
  }
}

async function stopServer(server: ServerProcess): Promise<void> {
  await server.stop('SIGTERM')
  await mkdir(join(CACHE_FOLDER, 'logs'), { recursive: true })
  await writeFile(SERVER_LOG, server.log())
}

async function ownSystem(say: Say): Promise<SourceImage> {
  const rootfs = await ensureRootfs(() =>
    say('installing your distribution into an image with mmdebstrap, once: a minute or two'),
  )
  const path = await ensureExt4Image(rootfs)
  say(`the image to stream is ${path}`)
  return await describeImage(path, rootfs.folder, rootfs.name)
}

async function imageOfUser(disk: string): Promise<SourceImage> {
  try {
    return await describeImage(disk, disk, nameOfFile(disk))
  } catch (error) {
    throw new Error(`Cannot use --disk "${disk}": it cannot be read`, { cause: error })
  }
}

/** `identity` and the file's state tell one image from another of the same name. */
async function describeImage(path: string, identity: string, name: string): Promise<SourceImage> {
  const { size, mtimeMs } = await stat(path)
  const hash = createHash('sha256').update(`${identity} ${size} ${mtimeMs}`).digest('hex')
  const vdisk = `${name.slice(0, NAME_LENGTH_MAX)}-${hash.slice(0, 8)}`
  return { path, vdisk, title: name, sizeBytes: size }
}

async function ensureImported(
  server: ServerProcess,
  image: SourceImage,
  say: Say,
): Promise<VDiskView> {
  const known = await server.json<VDiskView[]>('vdisk', 'ls')
  const found = known.find(({ name }) => name === image.vdisk)
  if (found !== undefined) return found
  for (const { name, title } of known) {
    if (title === image.title) await server.run('vdisk', 'rm', name, '--force')
  }
  say(`importing ${formatBytes(image.sizeBytes)} as vDisk ${image.vdisk}`)
  const options = ['--name', image.vdisk, '--title', image.title]
  const imported = await server.run('vdisk', 'import', image.path, ...options)
  if (imported.status !== 0) throw new Error(failureIn(imported.stderr))
  return await server.json<VDiskView>('vdisk', 'show', image.vdisk)
}

/** A machine of an earlier demo would boot again what it was given then. */
async function assignToKnownClients(server: ServerProcess, vdisk: string): Promise<void> {
  for (const { id } of await server.json<ClientView[]>('client', 'ls')) {
    const assigned = await server.run('client', 'assign', id, vdisk, '--only')
    if (assigned.status !== 0) throw new Error(failureIn(assigned.stderr))
  }
}

/** Why a command failed; before it says so, it says what it does. */
export function failureIn(stderr: string): string {
  return (
    stderr
      .trim()
      .split(/^bootwire: /m)
      .at(-1) ?? ''
  )
}

function kernelOf({ name, versions }: VDiskView): string {
  const kernelId = versions[0]?.kernel?.id
  if (kernelId === undefined) throw new Error(`Cannot boot vDisk ${name}: it has no kernel`)
  return join(STATE_FOLDER, 'boot/kernel', kernelId, 'vmlinuz')
}
