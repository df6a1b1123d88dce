/** Tells /init where the root file system is and who this machine is. */
import type { Identity, Opened } from '#shared/wire/messages.ts'
import type { RunFolder } from './run-folder.ts'
import { renderAssignments } from './shell-assignments.ts'

const FILE = 'root.env'

export function writeRootEnv(
  runFolder: RunFolder,
  devicePath: string,
  { root }: Pick<Opened, 'root'>,
  { hostname, machineId }: Pick<Identity, 'hostname' | 'machineId'>,
): void {
  const values = {
    ROOT_DEVICE: root.partition === 0 ? devicePath : `${devicePath}p${root.partition}`,
    ROOT_FSTYPE: root.fsType,
    ROOT_OPTIONS: root.options,
    CLIENT_HOSTNAME: hostname,
    CLIENT_MACHINE_ID: machineId,
  }
  runFolder.write(FILE, renderAssignments(values))
}
