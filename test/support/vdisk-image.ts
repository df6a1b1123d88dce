/**
 * Disk images of the installed system (`rootfs.ts`) in the shapes people have them, built once each
 * and kept beside it. Needs root: owners of files are kept, and xfs and btrfs are filled mounted.
 */
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { GiB, MiB } from '#shared/units.ts'
import { ensureBuilt } from './build-cache.ts'
import { runProgram, runScript } from './child-run.ts'
import { makeDisk, makeExt4, makeMounted } from './fake-system.ts'
import { makePhysicalVolumes } from './lvm-disk.ts'
import type { Rootfs } from './rootfs.ts'

/** Twice what a minimal system takes; the files are sparse. */
const IMAGE_BYTES: number = GiB

/** The full kernel brings 400 MB of drivers. */
const FULL_KERNEL_IMAGE_BYTES: number = 2 * GiB

const DATA_PARTITION_BYTES: number = 16 * MiB

/** Room for two kernels with their initramfs. */
const BOOT_BYTES: number = 128 * MiB

/** Without /usr a system has 60 MB, most of it lists of packages. */
const LVM_ROOT_BYTES: number = 256 * MiB
const LVM_BYTES: number = IMAGE_BYTES + LVM_ROOT_BYTES + DATA_PARTITION_BYTES + 8 * MiB

const INTO_SUBVOLUME = 'btrfs -q subvolume create @ >/dev/null; cp -a "$1"/. @/'

/** A bare ext4 file system. */
export async function ensureExt4Image(
  rootfs: Rootfs,
  sizeBytes: number = IMAGE_BYTES,
): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'ext4.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => await makeExt4(image, tree, sizeBytes))
  })
}

/** The same a version later: one program more, another changed in place. Made anew at every call. */
export async function makeNextExt4Image(rootfs: Rootfs, image: string): Promise<void> {
  const script = `
    cp --sparse=always "$3" "$1"
    mount -o loop "$1" "$2"
    trap 'umount "$2"' EXIT
    cp "$2/usr/bin/bash" "$2/usr/bin/bash-of-version-2"
    printf 'changed\n' >>"$2/usr/bin/busctl"`
  const folder = await mkdtemp(join(dirname(image), 'mount-'))
  try {
    await runScript(script, [image, folder, await ensureExt4Image(rootfs)])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** A GPT disk with xfs on its second partition; the first holds a file system that is no system. */
export async function ensureGptXfsImage(rootfs: Rootfs): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'gpt-xfs.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => {
      const [data, root, empty] = [`${image}.data`, `${image}.root`, `${image}.empty`]
      await mkdir(empty)
      await makeExt4(data, empty, DATA_PARTITION_BYTES)
      await makeMounted(root, 'xfs', IMAGE_BYTES, { folder: tree })
      await makeDisk(image, 'gpt', [
        { image: data, sizeBytes: DATA_PARTITION_BYTES },
        { image: root, sizeBytes: IMAGE_BYTES },
      ])
    })
  })
}

/** An MBR disk with btrfs, the system in subvolume @, and the kernel for any machine. */
export async function ensureMbrBtrfsImage(rootfs: Rootfs): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'mbr-btrfs-full-kernel.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => {
      await replaceKernel(tree, rootfs.system.fullKernel)
      const root = `${image}.root`
      await makeMounted(root, 'btrfs', FULL_KERNEL_IMAGE_BYTES, {
        folder: tree,
        script: INTO_SUBVOLUME,
      })
      await makeDisk(image, 'dos', [{ image: root, sizeBytes: FULL_KERNEL_IMAGE_BYTES }])
    })
  })
}

/**
 * A GPT disk as installers make it for servers: /boot on a partition of its own, and a volume group with the
 * root in two pieces, /usr, and a home that the system has to find itself. fstab names all of them.
 */
export async function ensureLvmImage(rootfs: Rootfs): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'gpt-lvm.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => {
      const part = (name: string) => `${image}.${name}`
      const fstab = [
        '/dev/mapper/my--group-root / ext4 defaults 0 1',
        '/dev/my-group/usr /usr xfs defaults 0 0',
        'LABEL=boot /boot ext4 defaults 0 2',
        '/dev/my-group/home /home ext4 defaults 0 2',
      ]
      await writeFile(join(tree, 'etc/fstab'), fstab.map((line) => `${line}\n`).join(''))
      for (const name of ['boot', 'usr', 'home']) {
        await rename(join(tree, name), part(`${name}-tree`))
        await mkdir(join(tree, name))
      }
      await makeExt4(part('boot'), part('boot-tree'), BOOT_BYTES, 'boot')
      await makeExt4(part('root'), tree, LVM_ROOT_BYTES)
      await makeMounted(part('usr'), 'xfs', IMAGE_BYTES, { folder: part('usr-tree') })
      await makeExt4(part('home'), part('home-tree'), DATA_PARTITION_BYTES)
      await makePhysicalVolumes([part('lvm')], LVM_BYTES, 'my-group', [
        { name: 'root', image: part('root'), sizeBytes: LVM_ROOT_BYTES, addedBytes: 64 * MiB },
        { name: 'usr', image: part('usr'), sizeBytes: IMAGE_BYTES },
        { name: 'home', image: part('home'), sizeBytes: DATA_PARTITION_BYTES },
      ])
      await makeDisk(image, 'gpt', [
        { image: part('boot'), sizeBytes: BOOT_BYTES },
        { image: part('lvm'), sizeBytes: LVM_BYTES },
      ])
    })
  })
}

/** A GPT disk with the root on xfs and /boot on ext4. */
export async function ensureGptBootXfsImage(rootfs: Rootfs): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'gpt-boot-xfs.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => {
      const [boot, root] = [`${image}.boot`, `${image}.root`]
      await writeFile(join(tree, 'etc/fstab'), 'LABEL=boot /boot ext4 defaults 0 2\n')
      await rename(join(tree, 'boot'), `${image}.boot-tree`)
      await mkdir(join(tree, 'boot'))
      await makeExt4(boot, `${image}.boot-tree`, BOOT_BYTES, 'boot')
      await makeMounted(root, 'xfs', IMAGE_BYTES, { folder: tree })
      await makeDisk(image, 'gpt', [
        { image: boot, sizeBytes: BOOT_BYTES },
        { image: root, sizeBytes: IMAGE_BYTES },
      ])
    })
  })
}

/** A GPT disk with btrfs, the system in subvolume @. */
export async function ensureGptBtrfsImage(rootfs: Rootfs): Promise<string> {
  return await ensureBuilt(join(rootfs.folder, 'gpt-btrfs.img'), async (image) => {
    await withTree(rootfs, image, async (tree) => {
      const root = `${image}.root`
      await makeMounted(root, 'btrfs', IMAGE_BYTES, { folder: tree, script: INTO_SUBVOLUME })
      await makeDisk(image, 'gpt', [{ image: root, sizeBytes: IMAGE_BYTES }])
    })
  })
}

/** The system's own kernel and initramfs, to boot an image without bootwire. */
export async function ensureKernelFiles(
  rootfs: Rootfs,
): Promise<{ readonly kernel: string; readonly initrd: string }> {
  const folder = await ensureBuilt(join(rootfs.folder, 'boot'), async (path) => {
    await mkdir(path)
    const script = `
      tar -xf "$2" -C "$1" --strip-components=2 --wildcards './boot/vmlinuz-*' './boot/initrd.img-*'
      mv "$1"/vmlinuz-* "$1/vmlinuz"
      mv "$1"/initrd.img-* "$1/initrd.img"`
    await runScript(script, [path, rootfs.tarPath])
  })
  return { kernel: join(folder, 'vmlinuz'), initrd: join(folder, 'initrd.img') }
}

/** Unpacks the system for as long as `use` runs. */
async function withTree(
  rootfs: Rootfs,
  image: string,
  use: (tree: string) => Promise<void>,
): Promise<void> {
  const tree = await mkdtemp(join(dirname(image), 'tree-'))
  try {
    await runProgram('tar', ['-xf', rootfs.tarPath, '-C', tree, '--numeric-owner'])
    await runProgram('chmod', ['0755', tree])
    await use(tree)
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

/** Puts another kernel in the place of the one there is, without running anything of the system. */
async function replaceKernel(tree: string, metaPackage: string): Promise<void> {
  const depends = await runProgram('apt-cache', ['depends', metaPackage])
  const [, release] = /Depends: linux-image-([0-9]\S*)/.exec(depends) ?? []
  if (release === undefined) {
    throw new Error(`Cannot find the kernel of ${metaPackage}: try "apt-get update"`)
  }
  const packages = await existingPackages(`linux-(image|modules|modules-extra)-${release}`)
  const folder = await mkdtemp(join(dirname(tree), 'kernel-'))
  const script = `
    tree=$1 release=$2
    shift 2
    apt-get -o APT::Sandbox::User=root download "$@" >/dev/null
    rm -rf "$tree"/boot/* "$tree"/usr/lib/modules/* "$tree"/initrd.img* "$tree"/vmlinuz*
    mkdir unpacked
    for package in ./*.deb; do dpkg-deb -x "$package" unpacked; done
    cp -a unpacked/boot/. "$tree/boot/"
    cp -a unpacked/lib/modules/. "$tree/usr/lib/modules/" || cp -a unpacked/usr/lib/modules/. "$tree/usr/lib/modules/"
    depmod -b "$tree" "$release"`
  try {
    await runScript(script, [tree, release, ...packages], { cwd: folder })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function existingPackages(pattern: string): Promise<string[]> {
  const found = await runProgram('apt-cache', ['search', '--names-only', `^${pattern}$`])
  return found
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => name !== '')
}
