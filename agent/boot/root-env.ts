/** Tells /init where the root file system is and who this machine is. */
import type { FileSystemLocation, RootLocation, VolumeLocation } from '#shared/wire/messages.ts'
import type { Resume } from './resume-file.ts'
import type { RunFolder } from './run-folder.ts'
import { renderAssignments } from './shell-assignments.ts'

const FILE = 'root.env'

export function writeRootEnv(
  runFolder: RunFolder,
  devicePath: string,
  { opened: { root }, hostname, machineId }: Resume,
): void {
  const { usr } = root
  const values = {
    VOLUMES: volumesOf(root)
      .map((volume) => conciseTable(volume, devicePath))
      .join(';'),
    ROOT_DEVICE: deviceOf(root, devicePath),
    ROOT_FSTYPE: root.fsType,
    ROOT_OPTIONS: root.options,
    USR_DEVICE: usr === undefined ? '' : deviceOf(usr, devicePath),
    USR_FSTYPE: usr?.fsType ?? '',
    USR_OPTIONS: usr?.options ?? '',
    CLIENT_HOSTNAME: hostname,
    CLIENT_MACHINE_ID: machineId,
  }
  runFolder.write(FILE, renderAssignments(values))
}

function volumesOf({ usr, ...root }: RootLocation): VolumeLocation[] {
  // Two subvolumes of one btrfs may be the two.
  const volumes = [root.volume, usr?.volume].filter((volume) => volume !== undefined)
  return [...new Map(volumes.map((volume) => [volume.name, volume])).values()]
}

function deviceOf({ partition, volume }: FileSystemLocation, devicePath: string): string {
  return volume === undefined ? partitionOf(partition, devicePath) : `/dev/mapper/${volume.name}`
}

/** dmsetup(8), concise format: name, UUID, any minor number, writable, a line of table per segment. */
function conciseTable({ name, uuid, segments }: VolumeLocation, devicePath: string): string {
  let start = 0
  const lines = segments.map(({ partition, startSector, sectors }) => {
    const line = `${start} ${sectors} linear ${partitionOf(partition, devicePath)} ${startSector}`
    start += sectors
    return line
  })
  return [name, uuid, '', 'rw', ...lines].join(',')
}

function partitionOf(partition: number, devicePath: string): string {
  return partition === 0 ? devicePath : `${devicePath}p${partition}`
}
