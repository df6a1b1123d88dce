/**
 * The files of an installed Linux as far as an import looks at them, and disk images made of them by
 * the same tools a distribution uses.
 */
import { execFile } from 'node:child_process'
import { mkdir, rename, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { MiB } from '#shared/units.ts'
import { fakeModule } from './fake-module.ts'

const run = promisify(execFile)

export const RELEASE = '6.1.0-9-test'

export interface FakeSystem {
  /** Kernels by release, with the drivers they have; the one above when it is not said. */
  readonly kernels?: Readonly<Record<string, readonly string[]>>
  readonly prettyName?: string
  /** Lines of the kernels' config files. */
  readonly config?: readonly string[]
}

const CONFIG = ['BLK_DEV_INITRD', 'RD_ZSTD', 'DEVTMPFS', 'PRINTK'].map((name) => `CONFIG_${name}=y`)

/** Drivers of the kernel above, by path below the modules' folder, and what they say of themselves. */
export const MODULES: Readonly<Record<string, readonly string[]>> = {
  'kernel/drivers/block/nbd.ko': [],
  'kernel/drivers/md/dm-mod.ko': [],
  'kernel/fs/ext4/ext4.ko': [],
  'kernel/fs/xfs/xfs.ko': ['softdep=pre: crc32c'],
  'kernel/fs/btrfs/btrfs.ko': [],
  'kernel/crypto/crc32c_generic.ko': ['alias=crc32c', 'alias=crypto-crc32c'],
  'kernel/drivers/net/ethernet/intel/e1000/e1000.ko': [
    'alias=pci:v00008086d0000100Esv*sd*bc*sc*i*',
  ],
  'kernel/drivers/net/virtio_net.ko': [],
  'kernel/drivers/virtio/virtio_pci.ko': ['alias=pci:v00001AF4d*sv*sd*bc*sc*i*'],
  'kernel/drivers/net/ethernet/rare/rare.ko': [
    'alias=pci:v0000ABCDd00001234sv*sd*bc*sc*i*',
    'firmware=rare/rare.bin',
  ],
  'kernel/sound/noise.ko': [],
}

/** An x86 kernel as the boot protocol knows it by: nothing more. */
export function fakeKernel(text: string): Buffer {
  const image = Buffer.alloc(4096)
  image.write('HdrS', 0x202, 'latin1')
  image.write(text, 0x400, 'latin1')
  return image
}

export async function makeSystem(folder: string, system: FakeSystem = {}): Promise<void> {
  const { kernels = { [RELEASE]: Object.keys(MODULES) }, prettyName = 'Test Linux 1' } = system
  const write = async (path: string, content: string | Buffer) => {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), content)
  }
  await write('usr/lib/os-release', `NAME=Test\nPRETTY_NAME="${prettyName}"\n`)
  await write('usr/lib/systemd/systemd', 'init')
  await write('usr/lib/firmware/rare/rare.bin', 'firmware of the rare card')
  await mkdir(join(folder, 'usr/sbin'))
  await mkdir(join(folder, 'etc'))
  await mkdir(join(folder, 'boot'))
  await symlink('usr/lib', join(folder, 'lib'))
  await symlink('usr/sbin', join(folder, 'sbin'))
  await symlink('../usr/lib/os-release', join(folder, 'etc/os-release'))
  await symlink('/lib/systemd/systemd', join(folder, 'usr/sbin/init'))
  for (const [release, modules] of Object.entries(kernels)) {
    await write(`boot/vmlinuz-${release}`, fakeKernel(release))
    await write(`boot/config-${release}`, (system.config ?? CONFIG).join('\n'))
    const target = `usr/lib/modules/${release}`
    for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
      await write(`${target}/${name}`, '')
    }
    for (const path of modules) await write(`${target}/${path}`, fakeModule(MODULES[path] ?? []))
    await run('depmod', ['-b', folder, release])
  }
}

/** Moves what is in /boot away, as onto a partition of its own. */
export async function splitBoot(system: string, boot: string): Promise<void> {
  await rename(join(system, 'boot'), boot)
  await mkdir(join(system, 'boot'))
}

/** Moves /usr away, as onto a file system of its own that fstab names. */
export async function splitUsr(system: string, usr: string, device: string): Promise<void> {
  await rename(join(system, 'usr'), usr)
  await mkdir(join(system, 'usr'))
  await writeFile(join(system, 'etc/fstab'), `${device} /usr ext4 defaults 0 2\n`)
}

export async function makeExt4(
  image: string,
  folder: string,
  sizeBytes: number = 16 * MiB,
  label = '',
): Promise<void> {
  await blank(image, sizeBytes)
  await run('mkfs.ext4', ['-q', '-L', label, '-d', folder, image])
}

export async function blank(path: string, sizeBytes: number): Promise<void> {
  await writeFile(path, '', { flag: 'a' })
  await truncate(path, sizeBytes)
}

/** Puts images behind each other into a partitioned disk. */
export async function makeDisk(
  disk: string,
  label: 'gpt' | 'dos',
  partitions: readonly { readonly image: string; readonly sizeBytes: number }[],
): Promise<void> {
  const total = partitions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 2 * MiB)
  await blank(disk, total)
  const lines = partitions.map(({ sizeBytes }) => `size=${sizeBytes / 512}, type=L`)
  const script = [`label: ${label}`, ...lines].join('\n')
  await run('sh', ['-c', 'printf "%s\\n" "$1" | sfdisk --quiet "$2"', 'sh', script, disk])
  let offset = MiB
  for (const { image, sizeBytes } of partitions) {
    await run('dd', [
      `if=${image}`,
      `of=${disk}`,
      'bs=1M',
      `seek=${offset / MiB}`,
      'conv=notrunc,sparse',
      'status=none',
    ])
    offset += sizeBytes
  }
}

/** Makes a file system and fills it; `script` runs in the mounted file system, $1 is the folder. */
export async function makeMounted(
  image: string,
  type: 'xfs' | 'btrfs',
  sizeBytes: number,
  { folder, script = 'cp -a "$1"/. .' }: { readonly folder: string; readonly script?: string },
): Promise<void> {
  await blank(image, sizeBytes)
  await run(`mkfs.${type}`, ['-q', image])
  const fill = `mount -o loop "$2" /mnt; cd /mnt; ${script}; cd /; umount /mnt`
  const namespace = ['--mount', '--propagation', 'private']
  await run('unshare', [...namespace, 'sh', '-euc', fill, 'sh', folder, image])
}
