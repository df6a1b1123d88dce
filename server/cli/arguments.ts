/** Arguments that many commands take. */

export const CLIENT = {
  type: 'string',
  demandOption: true,
  describe: 'Id, beginning of the id, host name or MAC address',
} as const

export const VDISK = {
  type: 'string',
  demandOption: true,
  describe: 'Name of the vDisk',
} as const
