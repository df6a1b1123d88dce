/**
 * Images of bootstrap media: iPXE and its script, for BIOS and UEFI.
 *
 * `iso` starts from a CD and from a stick (isohybrid). `usb` is a stick with a FAT partition, on which the
 * script can be edited with any computer. `efi` is a folder to be copied to the EFI system partition of an
 * installed machine.
 *
 * On UEFI iPXE finds `autoexec.ipxe` by itself, in the root of where it was loaded from (ISO 9660 is nothing
 * that firmware reads, so that a FAT image within the ISO has both), beside itself, or in the root of the
 * partition. On a BIOS the boot loader hands it over as an initramfs.
 */
import { access, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { runTool } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'

export const MEDIA_KINDS = ['iso', 'usb', 'efi'] as const
export type MediaKind = (typeof MEDIA_KINDS)[number]

export interface MediaImage {
  readonly kind: MediaKind
  readonly path: string
  readonly script: string
  readonly ipxeFolder: string
}

const LABEL = 'BOOTWIRE'
const SCRIPT_NAME = 'autoexec.ipxe'

/** What the image is made of; those of UEFI in the order they are preferred. */
const BIOS_IPXE = ['ipxe.lkrn']
const UEFI_IPXE = ['ipxe.efi', 'ipxe-amd64.efi', 'ipxe-x86_64.efi']

/** iPXE before April 2021 does not look for a script on UEFI, and nothing else can hand it one. */
const AUTOEXEC_MARK = Buffer.from(SCRIPT_NAME)

/** Of Debian's packages isolinux and syslinux-common. */
const ISOLINUX_FOLDER = '/usr/lib/ISOLINUX'
const SYSLINUX_FOLDER = '/usr/lib/syslinux'

/** A stick: FAT16 needs 4085 clusters, and somebody may add a file. */
const USB_BYTES: number = 32 * MiB
/** Where partitions begin by custom, in sectors of 512 bytes. */
const PARTITION_SECTOR = 2048
/** A FAT image within the ISO: iPXE with all drivers has 1 MB. */
const EFI_IMAGE_KIB = 2880

const LOADER_CONFIG = `SERIAL 0 115200
DEFAULT ipxe
PROMPT 0
TIMEOUT 0
LABEL ipxe
  KERNEL /boot/ipxe.krn
  INITRD /${SCRIPT_NAME}
`

interface Build {
  readonly folder: string
  readonly out: string
  readonly bios: string
  readonly uefi: string
  readonly signal: AbortSignal
}

const BUILDERS: Readonly<Record<MediaKind, (build: Build) => Promise<void>>> = {
  iso: buildIso,
  usb: buildUsb,
  efi: buildEfi,
}

/**
 * Writes the image to its path, replacing what is there when it is whole.
 * @throws {BootwireError} NO_BOOT_PROGRAMS, BOOT_PROGRAM_TOO_OLD, TOOL_MISSING, TOOL_FAILED, ALREADY_EXISTS
 */
export async function buildMedia(image: MediaImage, signal: AbortSignal): Promise<void> {
  const { kind, path, script, ipxeFolder } = image
  const uefi = await findProgram(ipxeFolder, UEFI_IPXE)
  if (!(await readFile(uefi)).includes(AUTOEXEC_MARK)) {
    throw new BootwireError(
      'BOOT_PROGRAM_TOO_OLD',
      `Cannot make a medium with ${uefi}: this iPXE is older than 2021 and reads no script on UEFI`,
    )
  }
  const folder = await mkdtemp(join(tmpdir(), 'bootwire-media-'))
  try {
    const bios = kind === 'efi' ? '' : await findProgram(ipxeFolder, BIOS_IPXE)
    await writeFile(join(folder, SCRIPT_NAME), script)
    const out = join(folder, 'out')
    await BUILDERS[kind]({ folder, out, bios, uefi, signal })
    await place(out, path)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function buildIso({ folder, out, bios, uefi, signal }: Build): Promise<void> {
  const tree = join(folder, 'tree')
  const efiImage = join(tree, 'boot', 'efi.img')
  await mkdir(join(tree, 'isolinux'), { recursive: true })
  await mkdir(join(tree, 'boot'))
  await cp(bios, join(tree, 'boot', 'ipxe.krn'), { dereference: true })
  await cp(join(folder, SCRIPT_NAME), join(tree, SCRIPT_NAME))
  await copyLoader(`${ISOLINUX_FOLDER}/isolinux.bin`, join(tree, 'isolinux'))
  await copyLoader(`${SYSLINUX_FOLDER}/modules/bios/ldlinux.c32`, join(tree, 'isolinux'))
  await writeFile(join(tree, 'isolinux', 'isolinux.cfg'), LOADER_CONFIG)
  const options = { signal }
  await runTool(
    'mformat',
    ['-C', '-i', efiImage, '-f', String(EFI_IMAGE_KIB), '-v', LABEL, '::'],
    options,
  )
  await fillFat(efiImage, folder, uefi, signal)
  await runTool(
    'xorriso',
    [
      '-as',
      'mkisofs',
      '-quiet',
      '-o',
      out,
      '-V',
      LABEL,
      '-J',
      '-r',
      '-isohybrid-mbr',
      `${ISOLINUX_FOLDER}/isohdpfx.bin`,
      '-c',
      'isolinux/boot.cat',

      '-b',
      'isolinux/isolinux.bin',
      '-no-emul-boot',
      '-boot-load-size',
      '4',
      '-boot-info-table',

      '-eltorito-alt-boot',
      '-e',
      'boot/efi.img',
      '-no-emul-boot',
      '-isohybrid-gpt-basdat',
      tree,
    ],
    options,
  )
}

async function buildUsb({ folder, out, bios, uefi, signal }: Build): Promise<void> {
  const options = { signal }
  const fat = `${out}@@${PARTITION_SECTOR * 512}`
  const sectors = USB_BYTES / 512 - PARTITION_SECTOR
  const mbr = await loaderFile(`${SYSLINUX_FOLDER}/mbr/mbr.bin`)
  // Bootable, FAT16 with LBA: what both kinds of firmware take for a stick to start from.
  const table = Buffer.alloc(512)
  mbr.copy(table, 0, 0, 440)
  table.set([0x80, 0xfe, 0xff, 0xff, 0x0e, 0xfe, 0xff, 0xff], 446)
  table.writeUInt32LE(PARTITION_SECTOR, 454)
  table.writeUInt32LE(sectors, 458)
  table.set([0x55, 0xaa], 510)
  const disk = Buffer.alloc(USB_BYTES)
  table.copy(disk)
  await writeFile(out, disk)
  await runTool(
    'mformat',
    [
      '-i',
      fat,
      '-T',
      String(sectors),
      '-H',
      String(PARTITION_SECTOR),
      '-h',
      '64',
      '-s',
      '32',
      '-v',
      LABEL,
      '::',
    ],
    options,
  )
  await fillFat(fat, folder, uefi, signal)
  await runTool('mmd', ['-i', fat, '::/boot', '::/syslinux'], options)
  await runTool('mcopy', ['-i', fat, bios, '::/boot/ipxe.krn'], options)
  const config = join(folder, 'syslinux.cfg')
  await writeFile(config, LOADER_CONFIG)
  await runTool('mcopy', ['-i', fat, config, '::/syslinux/syslinux.cfg'], options)
  const offset = String(PARTITION_SECTOR * 512)
  await runTool(
    'syslinux',
    ['--offset', offset, '--directory', '/syslinux', '--install', out],
    options,
  )
}

async function buildEfi({ folder, out, uefi }: Build): Promise<void> {
  await mkdir(out)
  await cp(uefi, join(out, 'ipxe.efi'), { dereference: true })
  await cp(join(folder, SCRIPT_NAME), join(out, SCRIPT_NAME))
}

async function fillFat(
  fat: string,
  folder: string,
  uefi: string,
  signal: AbortSignal,
): Promise<void> {
  await runTool('mmd', ['-i', fat, '::/EFI', '::/EFI/BOOT'], { signal })
  await runTool('mcopy', ['-i', fat, uefi, '::/EFI/BOOT/BOOTX64.EFI'], { signal })
  await runTool('mcopy', ['-i', fat, join(folder, SCRIPT_NAME), `::/${SCRIPT_NAME}`], { signal })
}

/** By a rename where it can be; the folder of the image may be another file system. */
async function place(out: string, path: string): Promise<void> {
  const passing = join(dirname(path), `.bootwire-media-${process.pid}`)
  try {
    await access(dirname(path))
    await cp(out, passing, { recursive: true })
    await rename(passing, path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOTEMPTY' || code === 'EISDIR' || code === 'ENOTDIR') {
      throw new BootwireError('ALREADY_EXISTS', `Cannot write ${path}: it is there already`, {
        cause: error,
      })
    }
    if (code === 'ENOENT' || code === 'EACCES') {
      throw new BootwireError('PERMISSION_DENIED', `Cannot write ${path}: ${String(error)}`, {
        cause: error,
      })
    }
    throw error
  } finally {
    await rm(passing, { recursive: true, force: true })
  }
}

async function findProgram(folder: string, names: readonly string[]): Promise<string> {
  for (const name of names) {
    const path = join(folder, name)
    if ((await readFile(path).catch(() => undefined)) !== undefined) return path
  }
  throw new BootwireError(
    'NO_BOOT_PROGRAMS',
    `Cannot make a medium: ${folder} has no ${names.join(' and no ')}`,
  )
}

async function copyLoader(path: string, folder: string): Promise<void> {
  await loaderFile(path)
  await cp(path, join(folder, path.slice(path.lastIndexOf('/') + 1)))
}

async function loaderFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new BootwireError(
      'TOOL_MISSING',
      `Cannot make a medium: there is no ${path} (apt install isolinux syslinux syslinux-common)`,
      { cause: error },
    )
  }
}
