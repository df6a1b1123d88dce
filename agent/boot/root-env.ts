/** Tells /init where the root file system is and who this machine is. */
import type { Resume } from './resume-file.ts'
import type { RunFolder } from './run-folder.ts'
import { renderAssignments } from './shell-assignments.ts'

const FILE = 'root.env'

export function writeRootEnv(
  runFolder: RunFolder,
  devicePath: string,
  { opened: { root }, hostname, machineId }: Resume,
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
