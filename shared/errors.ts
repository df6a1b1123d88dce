/**
 * Every failure a user can meet, in one table. The code is what people quote (on the phone, in a
 * photograph of a screen, in a search); the message says what was wrong with which value; `action`
 * says what to do. Codes never change their meaning and are never reused.
 */
export interface ErrorKind {
  /** Short and stable, shown to people: `BW-E101`. */
  readonly number: string
  /** One sentence: what the reader should do now. */
  readonly action: string
  /** True when trying the same again later can succeed without anybody changing anything. */
  readonly retryable: boolean
}

function kind(number: string, action: string, retryable = false): ErrorKind {
  return { number, action, retryable }
}

export const ERROR_KINDS = {
  // 1xx: the server and its administration
  DATABASE_IN_USE: kind(
    'BW-E101',
    'Stop the other bootwire server that uses this state folder, or give this one another with --state',
  ),
  PORT_TAKEN: kind(
    'BW-E102',
    'Stop the program that listens on this port, or choose another with the option named above',
  ),
  SERVER_NOT_RUNNING: kind(
    'BW-E103',
    'Start it with "bootwire serve", or name its socket with --socket',
    true,
  ),
  NOT_FOUND: kind('BW-E104', 'List what there is with "bootwire vdisk ls" or "bootwire client ls"'),
  ALREADY_EXISTS: kind('BW-E105', 'Choose another name, or remove the existing one first'),
  INVALID_ARGUMENT: kind(
    'BW-E106',
    'Correct the value and try again; --help shows what is expected',
  ),
  IN_USE: kind(
    'BW-E107',
    'Wait until its clients are off, or give them another vDisk or version first',
  ),
  ARTEFACT_MISSING: kind('BW-E108', 'Build it with "npm run initramfs"'),
  STATE_UNREADABLE: kind(
    'BW-E109',
    'Restore the state folder from a backup, or start with an empty one',
  ),
  PERMISSION_DENIED: kind(
    'BW-E110',
    'Do it as a user who may: who owns the server or the file, or root (sudo)',
  ),
  UNAUTHENTICATED: kind(
    'BW-E111',
    'Give the token of an administrator with --token-file; "bootwire admin add" on the server makes one',
  ),
  NO_BOOT_PROGRAMS: kind(
    'BW-E112',
    'Install the package ipxe, or name a folder with the programs of iPXE with --ipxe-folder',
  ),
  BOOT_PROGRAM_TOO_OLD: kind(
    'BW-E113',
    'Name a folder with a newer iPXE with --ipxe-folder: the package ipxe of Debian 13 will do, unpacked with "dpkg -x"',
  ),
  // 2xx: images and vDisks
  IMAGE_MISSING: kind(
    'BW-E201',
    'Check the path; it is read by the server, so it must exist on the server',
  ),
  IMAGE_EMPTY: kind('BW-E202', 'Give an image that holds at least one file system'),
  IMAGE_TRUNCATED: kind(
    'BW-E203',
    'Copy the image again; its partition table or file system reaches beyond its end',
  ),
  IMAGE_NOT_BOOTABLE: kind(
    'BW-E204',
    'Give a disk or file-system image that holds an installed Linux system, or name the partition with --root-partition',
  ),
  STORE_FULL: kind(
    'BW-E205',
    'Free space in the folder named above, or move the state folder to a larger disk',
    true,
  ),
  NO_KERNEL: kind(
    'BW-E206',
    'Install a kernel package in the image (linux-image-amd64 on Debian) and import it again',
  ),
  KERNEL_UNUSABLE: kind(
    'BW-E207',
    'Install a kernel that has the named feature, then import the image again',
  ),
  FILESYSTEM_UNREADABLE: kind(
    'BW-E208',
    'Install guestmount on the server (apt install guestmount), or run the server as root so that it may mount the image',
  ),
  TOOL_MISSING: kind('BW-E209', 'Install the named package and try again'),
  TOOL_FAILED: kind('BW-E211', 'Check what the named program says; it could not do its part'),
  CHUNK_CORRUPT: kind(
    'BW-E210',
    'Look at the server\'s disk, then run "bootwire check --read-data --repair", which says which images to import again',
    true,
  ),
  // 3xx: between agent and server
  SERVER_UNREACHABLE: kind(
    'BW-E301',
    'Check the cable and that the server runs; the client tries again by itself',
    true,
  ),
  SERVER_NOT_BOOTWIRE: kind(
    'BW-E302',
    'Check the server address on the kernel command line; something else answers there',
    true,
  ),
  PROTOCOL_VERSION: kind(
    'BW-E303',
    "Restart this client so that it loads the server's current boot files",
  ),
  KEY_MISMATCH: kind(
    'BW-E304',
    "The server's key is not the one this client was told to trust: restart the client; if it stays, somebody may be in between",
  ),
  MESSAGE_INVALID: kind(
    'BW-E305',
    "Restart this client so that it loads the server's current boot files",
  ),
  CLIENT_PENDING: kind(
    'BW-E306',
    'Approve the client on the server: bootwire client approve ID',
    true,
  ),
  CLIENT_REFUSED: kind(
    'BW-E307',
    'This server does not admit unknown clients; its administrator can change that with --unknown-clients',
  ),
  NOTHING_ASSIGNED: kind(
    'BW-E308',
    'Assign a vDisk on the server: bootwire client assign ID VDISK',
    true,
  ),
  VDISK_GONE: kind('BW-E309', 'Assign another vDisk to this client on the server', true),
  WRITES_FENCED: kind(
    'BW-E313',
    'Restart this client: it was started again elsewhere, and what it writes now is kept nowhere',
  ),
  WRITES_UNUSABLE: kind(
    'BW-E314',
    'Look at the named folder on the server, or give up what is kept with "bootwire client discard-writes CLIENT VDISK"',
  ),
  KEY_REVOKED: kind(
    'BW-E315',
    'Approve the machine again on the server; before, give it a new key with "bootwire-agent key renew"',
  ),
  NOT_AUTHENTICATED: kind(
    'BW-E316',
    'Give the machine a place for a key (a TPM, or "bootwire-agent cache format DEVICE"), or on the server give the vDisk to all: bootwire vdisk access VDISK anyone',
    true,
  ),
  PROOF_INVALID: kind(
    'BW-E317',
    'Restart this client; if it stays, somebody between it and the server changes what is sent',
  ),
  IDENTITY_IN_USE: kind(
    'BW-E318',
    'Switch the other machine off, or look which of the two it is: a copied disk or key, or a board with the serial number of another; "bootwire client show" has what both claim',
    true,
  ),
  LIMIT_EXCEEDED: kind(
    'BW-E310',
    'Try again later; the server is protecting itself against too many requests',
    true,
  ),
  MANIFEST_INVALID: kind(
    'BW-E311',
    'Check the vDisk on the server with "bootwire check"; if it is sound, somebody changes data on the way',
    true,
  ),
  MANIFEST_UNTRUSTED: kind(
    'BW-E312',
    'This version was signed by another key than the one this client trusts: restart the client; if it stays, import the vDisk again on this server',
  ),
  // 4xx: on the client
  NO_NETWORK: kind('BW-E401', 'Check the network cable and the switch port', true),
  NO_ADDRESS: kind('BW-E402', 'Check that a DHCP server answers on this network', true),
  ATTACH_FAILED: kind(
    'BW-E403',
    'Report this with the lines above; the kernel refused the block device',
  ),
  ROOT_NOT_MOUNTED: kind(
    'BW-E404',
    'Check the image: import it again, or name the root partition with --root-partition',
  ),
  KEXEC_FAILED: kind(
    'BW-E405',
    'Assign this client only vDisks with the same kernel, or make this one its only vDisk',
  ),
  BAD_KERNEL_PARAMETER: kind(
    'BW-E406',
    'Correct the named bootwire.* kernel parameter in the boot script',
  ),
  WRITE_CACHE_FULL: kind(
    'BW-E407',
    'Delete something and run "fstrim -a", or restart the client to drop its changes; more memory or a write area on a local disk gives more room',
    true,
  ),
  WRITE_CACHE_UNUSABLE: kind(
    'BW-E408',
    'Restart the client; it starts with an empty write cache, and changes made since its boot are lost',
  ),
  CLIENT_MEMORY: kind(
    'BW-E409',
    'Give the client more memory, or a smaller RAM cache with bootwire.ram-cache=',
  ),
  VDISK_TOO_LARGE: kind('BW-E410', 'Assign this client a smaller vDisk on the server'),
  CACHE_UNUSABLE: kind(
    'BW-E411',
    'Format it again with "bootwire-agent cache format DEVICE"; until then the system runs without it',
  ),
  CACHE_NOT_EMPTY: kind(
    'BW-E412',
    'Give a disk or partition that holds nothing, or add --force: everything on it is lost then',
  ),
  CACHE_DEVICE_IN_USE: kind(
    'BW-E413',
    'Unmount it, or stop what uses it; a cache that this system runs on can only be formatted before the next boot',
  ),
  CACHE_DEVICE_UNFIT: kind(
    'BW-E414',
    'Give an empty disk, or a partition of a disk with a GPT, of 64 MiB or more',
  ),
  WRITE_PLACE_MISSING: kind(
    'BW-E416',
    'Make one with "bootwire-agent write-area format DEVICE", or choose another place with "bootwire client write-cache CLIENT --place"',
  ),
  WRITE_AREA_UNUSABLE: kind(
    'BW-E417',
    'Format it again with "bootwire-agent write-area format DEVICE --force"; what was kept in it is lost then',
  ),
  WRITE_AREA_FULL: kind(
    'BW-E418',
    'Give up what is kept there for other vDisks with "bootwire-agent write-area drop DEVICE VERSION", or make it larger',
  ),
  CACHE_FAILED: kind(
    'BW-E415',
    'Check or replace the disk of this client; the system runs on over the network',
  ),
  GATEWAY_SILENT: kind(
    'BW-E419',
    'Check the gateway that DHCP names (option 3) and the VLAN of the switch port; without it only servers of the same network can be reached',
    true,
  ),
  DNS_SILENT: kind(
    'BW-E420',
    'Check the name server that DHCP names (option 6), or name the server by its address',
    true,
  ),
  CLOCK_WRONG: kind(
    'BW-E421',
    'Nothing for this boot: it is set by the server before the system starts. If it comes back, change the battery of the board',
    true,
  ),
  STREAM_STALLED: kind(
    'BW-E422',
    'Check the MTU on the way to the server (tunnels, VLANs, jumbo frames): small packets come through, large ones do not (sysctl net.ipv4.tcp_mtu_probing=1 on the server finds out what does); and look at the load of the server',
    true,
  ),
  CAPTURE_REFUSED: kind(
    'BW-E423',
    'See "bootwire capture ls" on the server. Begun again, it goes on with what the server has',
    true,
  ),
  CAPTURE_IMPOSSIBLE: kind(
    'BW-E424',
    'Name a disk that nothing uses, such as /dev/sda (lsblk, or "cat /proc/partitions"), and unmount what is on it',
    true,
  ),
  INTERNAL: kind('BW-E999', 'Report this as a bug, with the lines above'),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERROR_KINDS

/** An operational failure: something outside the program is wrong and somebody can mend it. */
export class BootwireError extends Error {
  readonly code: ErrorCode
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BootwireError'
    this.code = code
  }

  get number(): string {
    return ERROR_KINDS[this.code].number
  }

  get action(): string {
    return ERROR_KINDS[this.code].action
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_KINDS, value)
}

export function isRetryable(error: unknown): boolean {
  return error instanceof BootwireError && ERROR_KINDS[error.code].retryable
}

/** Returns the error as a person should read it: number, what happened, what to do. */
export function describeError(error: unknown): string {
  if (error instanceof BootwireError) return `${error.number} ${error.message}\n  ${error.action}`
  return `${ERROR_KINDS.INTERNAL.number} ${error instanceof Error ? error.message : String(error)}`
}
