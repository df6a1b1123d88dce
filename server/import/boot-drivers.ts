/**
 * Which modules a client needs to reach its root, and a cache on a disk of its own: the drivers of
 * common machines go into `modules.img`, which every boot loads; those of rare ones into `extra.img`.
 * A name the kernel does not have (built in, or of another version) is no error.
 */

/** How the agent attaches its block device; without it a kernel cannot be used. */
export const NBD_MODULE = 'nbd'

const VIRTUAL_MACHINES = words(`
  virtio_pci virtio_mmio virtio_net virtio_rng net_failover vmxnet3 hv_vmbus hv_netvsc
  hyperv_keyboard hid_hyperv xen_netfront
`)

/** The boards' own sockets of the last twenty years, 1 to 10 Gbit/s. */
const NETWORK_CARDS = words(`
  e100 e1000 e1000e igb igc ixgbe i40e r8169 8139too 8139cp tg3 bnx2 atlantic alx atl1c atl1e
  atl1 sky2 skge forcedeth jme pcnet32 ne2k_pci via_rhine via_velocity sis900 dwmac_intel
`)

const USB_NETWORK_CARDS = words(`
  r8152 r8153_ecm asix ax88179_178a cdc_ncm cdc_ether cdc_eem smsc75xx smsc95xx lan78xx dm9601
  aqc111 mcs7830 pegasus rtl8150
`)

/** Chips between card and cable; the card's driver asks for the one it finds. */
const PHY_FOLDERS = [
  'kernel/drivers/net/phy/',
  'kernel/drivers/net/mdio/',
  'kernel/drivers/net/pcs/',
]

/** With the checksums of ext4, xfs and btrfs, which they ask for by name at the mount. */
const FILE_SYSTEMS = words(`
  ext4 xfs btrfs vfat overlay loop nls_ascii nls_cp437 nls_iso8859_1 nls_utf8 libcrc32c
  crc32c_generic crc32c_intel crc32_pclmul crc32c_cryptoapi xxhash_generic blake2b_generic
  sha256_generic raid6_pq xor
`)

/** For the menu and the shell. */
const KEYBOARDS = words(`
  xhci_pci xhci_pci_renesas ehci_pci ohci_pci uhci_hcd usbhid hid_generic hid_apple
  hid_logitech_dj hid_logitech_hidpp hid_microsoft i8042 atkbd serio_raw
`)

/**
 * Where a cache may lie: disks of virtual machines, NVMe, SATA, USB, and the soldered flash of small
 * machines. `sd_mod` and `mmc_block` are asked for by name, since nothing in an initramfs would load
 * them when such a disk shows up.
 */
const DISKS = words(`
  virtio_blk virtio_scsi hv_storvsc vmw_pvscsi xen_blkfront
  nvme vmd ahci ata_piix sd_mod usb_storage uas sdhci_pci sdhci_acpi mmc_block
`)

/** What the agent's own network on the system's card is made of (initramfs/agent-network.sh). */
const AGENT_NETWORK = ['veth', 'sch_ingress', 'cls_u32', 'act_mirred']

/** What puts logical volumes together. */
export const DEVICE_MAPPER_MODULE = 'dm_mod'

/** A network that is reached over a tagged port (`vlan=`). */
const VLAN_MODULE = '8021q'

const NETWORK = ['af_packet', 'ipv6', VLAN_MODULE, NBD_MODULE, ...AGENT_NETWORK]

export const BASE_MODULES: readonly string[] = [
  ...NETWORK,
  ...VIRTUAL_MACHINES,
  ...NETWORK_CARDS,
  ...USB_NETWORK_CARDS,
  ...FILE_SYSTEMS,
  ...KEYBOARDS,
  ...DISKS,
  DEVICE_MAPPER_MODULE,
]
export const BASE_FOLDERS: readonly string[] = PHY_FOLDERS

/** Every other wired card the kernel knows. */
export const EXTRA_FOLDERS: readonly string[] = [
  'kernel/drivers/net/ethernet/',
  'kernel/drivers/net/usb/',
]

function words(text: string): string[] {
  return text.trim().split(/\s+/)
}
