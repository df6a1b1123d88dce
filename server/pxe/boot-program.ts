/**
 * Which program a machine's firmware is given to begin with: iPXE in the form its architecture runs, and
 * for an iPXE that is there already, its script. Pure.
 */
import { DHCP_OPTION, type DhcpMessage } from '#shared/dhcp/dhcp-message.ts'

/** Who asks, as far as the choice depends on it. */
export interface PxeClient {
  /** `PXEClient` loads over TFTP, `HTTPClient` is firmware that loads over HTTP (UEFI 2.5). */
  readonly kind: 'PXEClient' | 'HTTPClient'
  /** Processor Architecture Type (IANA; RFC 4578 §2.1). */
  readonly architecture: number
  /** It is iPXE, and can load over HTTP: it wants a script. */
  readonly isIpxe: boolean
}

/** In the order they are preferred: what uses the firmware's own driver first, since that has just worked. */
const BIOS = ['undionly.kpxe', 'ipxe.pxe']
const UEFI_X64 = ['snponly.efi', 'snponly-x86_64.efi', 'ipxe.efi', 'ipxe-amd64.efi']
const UEFI_IA32 = ['snponly-i386.efi', 'ipxe-i386.efi']
const UEFI_ARM64 = ['snponly-arm64.efi', 'ipxe-arm64.efi']

/** With Secure Boot the firmware starts only what is signed by whom it knows; a folder with a shim is for that. */
const SHIM_X64 = ['shimx64.efi', 'ipxe-shimx64.efi']
const SHIM_ARM64 = ['shimaa64.efi', 'ipxe-shimaa64.efi']

const PROGRAMS: ReadonlyMap<number, readonly string[]> = new Map([
  [0x00, BIOS],
  [0x06, UEFI_IA32],
  [0x07, [...SHIM_X64, ...UEFI_X64]], // named "EBC" by RFC 4578; what 64-bit PCs really send
  [0x09, [...SHIM_X64, ...UEFI_X64]],
  [0x0b, [...SHIM_ARM64, ...UEFI_ARM64]],
  [0x0f, UEFI_IA32],
  [0x10, [...SHIM_X64, ...UEFI_X64]],
  [0x13, [...SHIM_ARM64, ...UEFI_ARM64]],
])

/** Tag of iPXE's feature "HTTP" within option 175 (ipxe/src/include/ipxe/features.h). */
const IPXE_FEATURE_HTTP = 0x13

/** Returns undefined for a machine that does not want to boot over the network. */
export function pxeClientOf({ options }: DhcpMessage): PxeClient | undefined {
  const vendorClass = latin1(options.get(DHCP_OPTION.vendorClass))
  const [, kind] = /^(PXEClient|HTTPClient)/.exec(vendorClass) ?? []
  if (kind === undefined) return undefined
  const option = options.get(DHCP_OPTION.clientArchitecture)
  const [, inText] = /:Arch:([0-9]{5})/.exec(vendorClass) ?? []
  const architecture =
    option !== undefined && option.length >= 2
      ? Buffer.from(option).readUInt16BE(0)
      : Number(inText ?? 0)
  return { kind: kind as PxeClient['kind'], architecture, isIpxe: isIpxe(options) }
}

/** Names that will do for this architecture, the best first; none for one that nobody knows. */
export function programsFor({ architecture }: PxeClient): readonly string[] {
  return PROGRAMS.get(architecture) ?? []
}

/** For messages: all of them. */
export const PROGRAM_NAMES: readonly string[] = [...new Set([...PROGRAMS.values()].flat())]

/**
 * iPXE says so in its user class, and is the only one with option 175: either is enough, so that no iPXE
 * is ever given itself again. One without HTTP counts as firmware, and is given one that has it.
 */
function isIpxe(options: DhcpMessage['options']): boolean {
  const features = options.get(DHCP_OPTION.ipxe)
  if (features !== undefined) return hasFeature(features, IPXE_FEATURE_HTTP)
  return latin1(options.get(DHCP_OPTION.userClass)).includes('iPXE')
}

/** Encapsulated options: tag, length, value. */
function hasFeature(options: Uint8Array, feature: number): boolean {
  for (let at = 0; at + 1 < options.length; at += 2 + (options[at + 1] ?? 0)) {
    if (options[at] === feature) return true
  }
  return false
}

function latin1(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : Buffer.from(bytes).toString('latin1')
}
