/**
 * The named steps of one boot, in order. Server and agent stamp them; the server keeps them as the
 * boot's timeline (the flight recorder). `firmware` is the only one nobody in bootwire can see: who
 * starts the machine (the demo, a test) adds it.
 */
export const BOOT_PHASES = [
  'firmware', // power-on, stamped by who starts the machine
  'ipxe', // the server handed out the boot script
  'kernel', // the server finished sending kernel and initramfs
  'agent', // the agent's first line
  'network', // the agent has an address
  'identified', // the server said who this machine is
  'chosen', // a vDisk was chosen, by the menu or because there is one only
  'attached', // /dev/nbd0 is there
  'first-block', // the first block of the vDisk arrived
  'root-mounted', // the root file system is mounted, switch_root follows
  'login', // the system offers a login
  'shutdown', // the session was closed cleanly
] as const

export type BootPhase = (typeof BOOT_PHASES)[number]
