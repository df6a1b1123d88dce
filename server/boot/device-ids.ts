/**
 * Devices as iPXE reports them (`${netX/busid}`) and as kernel modules claim them (modules.alias).
 * Both become `pci:8086:100e` or `usb:0bda:8152`: bus, vendor and product in hex. A driver for all of
 * a vendor's devices (virtio) claims `pci:1af4:*`.
 */

/** Bus types of iPXE (include/ipxe/device.h). */
const IPXE_BUSES: Readonly<Record<string, string>> = { '01': 'pci', '0a': 'usb' }

const BUS_ID = /^([0-9a-f]{2})-([0-9a-f]{2})-([0-9a-f]{2})-([0-9a-f]{2})-([0-9a-f]{2})$/

const PCI_ALIAS = /^pci:v0000([0-9A-F]{4})d(?:0000([0-9A-F]{4})|\*)/
const USB_ALIAS = /^usb:v([0-9A-F]{4})p([0-9A-F]{4})d/

/** `01-80-86-10-0e`: bus type, vendor, device, each byte in hex. */
export function deviceFromBusId(busId: string): string | undefined {
  const bytes = BUS_ID.exec(busId)
  const bus = IPXE_BUSES[bytes?.[1] ?? '']
  if (bytes === null || bus === undefined) return undefined
  return `${bus}:${bytes[2]}${bytes[3]}:${bytes[4]}${bytes[5]}`
}

/** Returns the device of a module alias; undefined for aliases that name none, such as classes. */
export function deviceFromAlias(alias: string): string | undefined {
  const pci = PCI_ALIAS.exec(alias)
  if (pci !== null) return `pci:${pci[1]}:${pci[2] ?? '*'}`.toLowerCase()
  const usb = USB_ALIAS.exec(alias)
  return usb === null ? undefined : `usb:${usb[1]}:${usb[2]}`.toLowerCase()
}

/** Returns the devices that modules.alias and modules.builtin.modinfo name, sorted. */
export function devicesOf(modulesAlias: string, builtinModinfo: string): string[] {
  const aliases = [
    ...modulesAlias.matchAll(/^alias (\S+)/gm),
    ...builtinModinfo.matchAll(/(?:^|\0)[^.=\0]+\.alias=([^\0]+)/g),
  ]
  const devices = aliases.map(([, alias = '']) => deviceFromAlias(alias))
  return [...new Set(devices.filter((device) => device !== undefined))].sort()
}
