/**
 * Physical volumes of LVM, made by LVM's own tools, with file systems on their logical volumes. The tools
 * need no device mapper for that: what is in a volume is written where LVM says that it lies. Needs root.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { MiB } from '#shared/units.ts'
import { blank } from './fake-system.ts'

const run = promisify(execFile)

export interface LvmVolume {
  readonly name: string
  /** What is put on it: a file system. */
  readonly image: string
  /** In extents of 4 MiB. */
  readonly sizeBytes: number
  /** How much of it is added only when all volumes are there, behind them: it lies in two pieces. */
  readonly addedBytes?: number
  /** As lvcreate has it; linear when it is not said. */
  readonly type?: 'striped'
}

const EXTENT_BYTES: number = 4 * MiB
/** Where LVM puts the first extent. */
const FIRST_EXTENT_BYTES: number = MiB

/** Makes files that are to be partitions of one disk; `group` names the volume group on them. */
export async function makePhysicalVolumes(
  paths: readonly string[],
  sizeBytes: number,
  group: string,
  volumes: readonly LvmVolume[],
): Promise<void> {
  const devices: string[] = []
  try {
    for (const path of paths) {
      await blank(path, sizeBytes)
      const { stdout } = await run('losetup', ['--find', '--show', path])
      devices.push(stdout.trim())
    }
    await makeVolumes(devices, group, volumes)
    for (const volume of volumes) {
      if (volume.type === undefined) await fill(paths, devices, group, volume)
    }
  } finally {
    for (const device of devices) await run('losetup', ['--detach', device])
  }
}

async function makeVolumes(
  devices: readonly string[],
  group: string,
  volumes: readonly LvmVolume[],
): Promise<void> {
  for (const device of devices) await lvm(devices, 'pvcreate', device)
  await lvm(devices, 'vgcreate', group, ...devices)
  for (const { name, sizeBytes, addedBytes = 0, type } of volumes) {
    const size = String((sizeBytes - addedBytes) / EXTENT_BYTES)
    const stripes = type === undefined ? [] : ['--type', type, '--stripes', String(devices.length)]
    const untouched = ['--activate', 'n', '--zero', 'n', '--wipesignatures', 'n']
    await lvm(devices, 'lvcreate', ...untouched, ...stripes, '-l', size, '-n', name, group)
  }
  for (const { name, addedBytes = 0 } of volumes) {
    if (addedBytes === 0) continue
    await lvm(devices, 'lvextend', '-l', `+${addedBytes / EXTENT_BYTES}`, `${group}/${name}`)
  }
}

/** Copies the image into the volume, piece by piece. */
async function fill(
  paths: readonly string[],
  devices: readonly string[],
  group: string,
  { name, image }: LvmVolume,
): Promise<void> {
  const columns = ['--segments', '--noheadings', '-o', 'seg_pe_ranges']
  const ranges = await lvm(devices, 'lvs', ...columns, `${group}/${name}`)
  let skip = 0
  for (const [, device = '', first, last] of ranges.matchAll(/(\/\S+):(\d+)-(\d+)/g)) {
    const blocks = ((Number(last) - Number(first) + 1) * EXTENT_BYTES) / MiB
    const seek = (FIRST_EXTENT_BYTES + Number(first) * EXTENT_BYTES) / MiB
    const target = paths[devices.indexOf(device)]
    const place = [`skip=${skip}`, `seek=${seek}`, `count=${blocks}`]
    const how = ['bs=1M', 'conv=notrunc,sparse', 'status=none']
    await run('dd', [`if=${image}`, `of=${target}`, ...place, ...how])
    skip += blocks
  }
}

/** Sees these devices and no others of this machine. */
async function lvm(devices: readonly string[], ...command: string[]): Promise<string> {
  const filter = devices.map((device) => `"a|^${device}$|"`).join(', ')
  const config = `devices { filter = [ ${filter}, "r|.*|" ] } backup { backup = 0 archive = 0 }`
  const [program = '', ...rest] = command
  const common = ['--driverloaded', 'n', '--config', config]
  const { stdout } = await run(program, [...common, ...rest], {
    env: { ...process.env, LVM_SUPPRESS_FD_WARNINGS: '1' },
  })
  return stdout
}
