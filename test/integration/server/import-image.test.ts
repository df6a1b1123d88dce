import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { BootFiles } from '#server/boot/boot-files.ts'
import {
  type ImportedImage,
  type ImportProgress,
  importImage,
} from '#server/import/import-image.ts'
import { Spool } from '#server/import/spool.ts'
import { silentLog } from '#server/log.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { versionContent } from '#server/store/versions/version-content.ts'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'
import {
  blank,
  fakeKernel,
  MODULES,
  makeDisk,
  makeExt4,
  makeMounted,
  makeSystem,
  RELEASE,
  splitBoot,
  splitUsr,
} from '#test/support/fake-system.ts'
import { makePhysicalVolumes } from '#test/support/lvm-disk.ts'
import { signForTest } from '#test/support/memory-chunk-store.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

/** mkfs.xfs makes nothing smaller. */
const XFS_BYTES = 300 * MiB
const BTRFS_BYTES = 128 * MiB
const EXT4_BYTES = 16 * MiB
/** Eight extents and LVM's own part. */
const LVM_BYTES = 36 * MiB

describe('importImage', () => {
  let temporary: TemporaryFolder
  let store: ContentStore
  let spool: Spool
  let bootFiles: BootFiles
  /** A system's files, and a bare ext4 image of them. */
  let system: string
  let ext4: string
  /** A file system that is no system. */
  let ext4Data: string

  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = await createTemporaryFolder()
    store = await ContentStore.open(path('state/store'), { sign: signForTest })
    spool = await Spool.open(path('state/spool'))
    bootFiles = await BootFiles.open(path('state'))
    system = path('system')
    ext4 = path('ext4.img')
    await mkdir(system)
    await makeSystem(system)
    await makeExt4(ext4, system, EXT4_BYTES)
    ext4Data = path('data.img')
    await mkdir(path('data'))
    await makeExt4(ext4Data, path('data'), EXT4_BYTES)
  })

  after(async () => {
    await store.close()
    await temporary[Symbol.asyncDispose]()
  })

  const importIt = async (
    image: string,
    options: { readonly rootPartition?: number; readonly signal?: AbortSignal } = {},
  ): Promise<ImportedImage> => {
    const { signal = new AbortController().signal, ...request } = options
    const deps = { store, bootFiles, spool, log: silentLog() }
    return await importImage({ path: image, ...request }, deps, () => undefined, signal)
  }

  const assertRefused = async (image: string, code: ErrorCode, message: RegExp) => {
    const versions = await store.listVersions()
    await assert.rejects(importIt(image), (error: unknown) => {
      assert.ok(error instanceof BootwireError, String(error))
      assert.equal(error.code, code)
      assert.match(error.message, message)
      return true
    })
    assert.deepEqual(await store.listVersions(), versions)
    assert.ok((await readdir(path('state/boot/kernel'))).every((name) => !name.startsWith('new-')))
  }

  const newSystem = async (name: string, options: Parameters<typeof makeSystem>[1]) => {
    const folder = path(name)
    await mkdir(folder)
    await makeSystem(folder, options)
    const image = path(`${name}.img`)
    await makeExt4(image, folder)
    return image
  }

  it('takes a bare ext4 file system, byte for byte', async () => {
    const imported = await importIt(ext4)
    assert.deepEqual(imported.root, { partition: 0, fsType: 'ext4', options: '' })
    assert.equal(imported.osName, 'Test Linux 1')
    assert.deepEqual(imported.warnings, [])
    assert.equal(imported.committed.sizeBytes, EXT4_BYTES)
    assert.equal(await hashOfVersion(imported), hashOf(await readFile(ext4)))
  })

  it('takes a disk in the format of another hypervisor, the same version as the raw one', async () => {
    const qcow2 = path('system.qcow2')
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', ext4, qcow2])
    const stages: string[] = []
    const deps = { store, bootFiles, spool, log: silentLog() }
    const { signal } = new AbortController()
    const onProgress = ({ stage }: ImportProgress) => void stages.push(stage)
    const imported = await importImage({ path: qcow2 }, deps, onProgress, signal)
    assert.equal(imported.format, 'qcow2')
    assert.equal(imported.committed.versionId, (await importIt(ext4)).committed.versionId)
    assert.deepEqual(
      [...new Set(stages)],
      [
        'unpacking qcow2',
        'looking what is on the image',
        'taking out kernel and drivers',
        'looking for secrets',
        'storing',
      ],
    )
  })

  it('tells how much of a sparse image is stored, and not how large it is', async () => {
    const deps = { store, bootFiles, spool, log: silentLog() }
    let last: ImportProgress | undefined
    const { signal } = new AbortController()
    await importImage({ path: ext4 }, deps, (progress) => void (last = progress), signal)
    assert.equal(last?.doneBytes, last?.totalBytes)
    assert.ok((last?.totalBytes ?? 0) < EXT4_BYTES, `${last?.totalBytes}`)
  })

  it('gives the same version id for the same content', async () => {
    const [first, second] = [await importIt(ext4), await importIt(ext4)]
    assert.equal(second.committed.versionId, first.committed.versionId)
    const { storedBytes, sharedBytes } = second.committed
    assert.equal(sharedBytes, storedBytes, 'all of it was there already')
  })

  it('takes out the kernel, and drivers in two archives', async () => {
    const { kernel } = await importIt(ext4)
    const id = hashOf(fakeKernel(RELEASE))
    assert.deepEqual(kernel, { id, release: RELEASE })
    assert.deepEqual(await readFile(bootFile(id, 'vmlinuz')), fakeKernel(RELEASE))
    const base = await drivers(id, 'modules.img')
    const wanted = [
      'btrfs',
      'crc32c_generic',
      'dm-mod',
      'e1000',
      'ext4',
      'nbd',
      'virtio_net',
      'virtio_pci',
      'xfs',
    ]
    assert.deepEqual(base, wanted)
    assert.deepEqual(await drivers(id, 'extra.img'), ['rare'])
    assert.equal(
      await textIn(id, 'extra.img', 'usr/lib/firmware/rare/rare.bin'),
      'firmware of the rare card',
    )
    assert.match(
      await textIn(id, 'extra.img', `usr/lib/modules/${RELEASE}/modules.dep`),
      /rare\.ko:[^]*nbd\.ko:|nbd\.ko:[^]*rare\.ko:/,
    )
    assert.ok(bootFiles.hasDriver(id, 'pci:8086:100e'))
    assert.ok(bootFiles.hasDriver(id, 'pci:1af4:1041'))
    assert.ok(!bootFiles.hasDriver(id, 'pci:abcd:1234'))
  })

  it('builds the same archives every time', async () => {
    const first = await importIt(ext4)
    const id = first.kernel?.id ?? ''
    const before = await readFile(bootFile(id, 'modules.img'))
    await importIt(ext4)
    assert.deepEqual(await readFile(bootFile(id, 'modules.img')), before)
    assert.equal(before.length % 4, 0)
  })

  it('unpacks drivers that are compressed', async () => {
    const folder = path('compressed')
    await mkdir(folder)
    await makeSystem(folder)
    const modules = join(folder, 'usr/lib/modules', RELEASE)
    await run('xz', [join(modules, 'kernel/drivers/block/nbd.ko')])
    await run('zstd', ['-q', '--rm', join(modules, 'kernel/fs/ext4/ext4.ko')])
    await run('depmod', ['-b', folder, RELEASE])
    // Debian's depmod leaves out what is packed by gzip; those of other distributions do not.
    await run('gzip', [join(modules, 'kernel/fs/xfs/xfs.ko')])
    const index = await readFile(join(modules, 'modules.dep'), 'utf8')
    await writeFile(join(modules, 'modules.dep'), index.replaceAll('xfs.ko', 'xfs.ko.gz'))
    await makeExt4(path('compressed.img'), folder)
    const { kernel } = await importIt(path('compressed.img'))
    const names = await archiveNames(kernel?.id ?? '', 'modules.img')
    const paths = ['drivers/block/nbd.ko', 'fs/ext4/ext4.ko', 'fs/xfs/xfs.ko']
    for (const it of paths) assert.ok(names.includes(`usr/lib/modules/${RELEASE}/kernel/${it}`), it)
  })

  it('finds an xfs root behind another partition on a GPT disk', async () => {
    const [root, disk] = [path('xfs.img'), path('gpt.img')]
    await makeMounted(root, 'xfs', XFS_BYTES, { folder: system })
    await makeDisk(disk, 'gpt', [
      { image: ext4Data, sizeBytes: EXT4_BYTES },
      { image: root, sizeBytes: XFS_BYTES },
    ])
    const imported = await importIt(disk)
    assert.deepEqual(imported.root, { partition: 2, fsType: 'xfs', options: '' })
    assert.equal(imported.kernel?.release, RELEASE)
  })

  it('finds a root in subvolume @ of btrfs on an MBR disk', async () => {
    const [root, disk] = [path('btrfs.img'), path('mbr.img')]
    const script = 'btrfs -q subvolume create @ >/dev/null; cp -a "$1"/. @/'
    await makeMounted(root, 'btrfs', BTRFS_BYTES, { folder: system, script })
    await makeDisk(disk, 'dos', [{ image: root, sizeBytes: BTRFS_BYTES }])
    const imported = await importIt(disk)
    assert.deepEqual(imported.root, { partition: 1, fsType: 'btrfs', options: 'subvol=@' })
    assert.equal(imported.kernel?.release, RELEASE)
  })

  it('takes the kernel from a boot partition of its own', async () => {
    const [folder, boot] = [path('split'), path('split-boot')]
    await mkdir(folder)
    await makeSystem(folder)
    await splitBoot(folder, boot)
    await makeExt4(path('split.img'), folder)
    await makeExt4(path('split-boot.img'), boot)
    await makeDisk(path('split-disk.img'), 'gpt', [
      { image: path('split-boot.img'), sizeBytes: EXT4_BYTES },
      { image: path('split.img'), sizeBytes: EXT4_BYTES },
    ])
    const imported = await importIt(path('split-disk.img'))
    assert.equal(imported.root.partition, 2)
    assert.equal(imported.kernel?.release, RELEASE)
  })

  /** A disk with /usr on a second partition, after `change` to the folder of the first. */
  const diskWithUsrApart = async (
    name: string,
    change: (folder: string) => Promise<void> = () => Promise.resolve(),
  ) => {
    const [folder, usr, disk] = [path(name), path(`${name}-usr`), path(`${name}-disk.img`)]
    await mkdir(folder)
    await makeSystem(folder)
    await splitUsr(folder, usr, 'LABEL=programs')
    await change(folder)
    await makeExt4(path(`${name}.img`), folder)
    await makeExt4(path(`${name}-usr.img`), usr, EXT4_BYTES, 'programs')
    await makeDisk(disk, 'gpt', [
      { image: path(`${name}.img`), sizeBytes: EXT4_BYTES },
      { image: path(`${name}-usr.img`), sizeBytes: EXT4_BYTES },
    ])
    return disk
  }

  it('mounts /usr from the partition that fstab names', async () => {
    const imported = await importIt(await diskWithUsrApart('apart'))
    const usrLocation = { partition: 2, fsType: 'ext4', options: '' }
    assert.deepEqual(imported.root, { ...usrLocation, partition: 1, usr: usrLocation })
    assert.equal(imported.osName, 'Test Linux 1')
    assert.equal(imported.kernel?.release, RELEASE)
  })

  it('never mounts /usr over a folder of the server', async () => {
    const disk = await diskWithUsrApart('astray', async (folder) => {
      await rm(join(folder, 'usr'), { recursive: true })
      await symlink('/etc', join(folder, 'usr'))
    })
    await assertRefused(disk, 'FILESYSTEM_UNREADABLE', /\/usr is not a folder of the image/)
  })

  describe('with LVM', () => {
    /** A disk with its root, in two pieces on two partitions, and /usr on logical volumes. */
    let disk: string

    before(async () => {
      const [folder, usr] = [path('lvm'), path('lvm-usr')]
      disk = path('lvm.img')
      await mkdir(folder)
      await makeSystem(folder)
      await splitUsr(folder, usr, '/dev/mapper/my--group-usr')
      await makeExt4(path('lvm-root.img'), folder)
      await makeExt4(path('lvm-usr.img'), usr)
      const parts = [path('lvm-1.img'), path('lvm-2.img')]
      await makePhysicalVolumes(parts, LVM_BYTES, 'my-group', [
        { name: 'root', image: path('lvm-root.img'), sizeBytes: EXT4_BYTES, addedBytes: 4 * MiB },
        { name: 'usr', image: path('lvm-usr.img'), sizeBytes: EXT4_BYTES },
        { name: 'fast', image: '', sizeBytes: 8 * MiB, type: 'striped' },
      ])
      await makeDisk(disk, 'gpt', [
        { image: ext4Data, sizeBytes: EXT4_BYTES },
        ...parts.map((image) => ({ image, sizeBytes: LVM_BYTES })),
      ])
    })

    it('finds root and /usr on logical volumes, in pieces or whole', async () => {
      const { root, kernel, lint } = await importIt(disk)
      assert.equal(kernel?.release, RELEASE)
      assert.deepEqual(
        [root.partition, root.fsType, root.volume?.name],
        [2, 'ext4', 'my--group-root'],
      )
      const pieces = root.volume?.segments.map(({ sectors }) => sectors * 512)
      assert.deepEqual(pieces, [12 * MiB, 4 * MiB])
      assert.equal(root.usr?.volume?.name, 'my--group-usr')
      assert.match(root.volume?.uuid ?? '', /^LVM-[A-Za-z0-9]{64}$/)
      assert.match(lint?.incomplete.join() ?? '', /my--group-fast cannot be read: it is striped/)
    })

    it('takes the newest description there is, and none that is damaged', async () => {
      const torn = path('torn.img')
      await copyFile(disk, torn)
      const at = MiB + EXT4_BYTES + 4096
      const file = await open(torn, 'r+')
      await file.write(Buffer.alloc(512, 'x'), 0, 512, at)
      await file.close()
      assert.deepEqual((await importIt(torn)).root, (await importIt(disk)).root)
      const both = await open(torn, 'r+')
      await both.write(Buffer.alloc(512, 'x'), 0, 512, at + LVM_BYTES)
      await both.close()
      await assertRefused(
        torn,
        'IMAGE_NOT_BOOTABLE',
        /LVM on partition 2 says nothing of its volumes/,
      )
    })

    it('says what lies on another disk', async () => {
      const half = path('half.img')
      await makeDisk(half, 'gpt', [{ image: path('lvm-1.img'), sizeBytes: LVM_BYTES }])
      await assertRefused(
        half,
        'IMAGE_NOT_BOOTABLE',
        /root cannot be read: a part of it is on another disk/,
      )
    })
  })

  it('takes the root partition it is told', async () => {
    const disk = path('two.img')
    const partition = { image: ext4, sizeBytes: EXT4_BYTES }
    await makeDisk(disk, 'gpt', [partition, partition])
    assert.equal((await importIt(disk)).root.partition, 1)
    assert.equal((await importIt(disk, { rootPartition: 2 })).root.partition, 2)
    await assert.rejects(importIt(disk, { rootPartition: 3 }), { code: 'IMAGE_NOT_BOOTABLE' })
  })

  it('boots the newest kernel that has modules, and says which it passes over', async () => {
    const all = Object.keys(MODULES)
    const image = await newSystem('many', {
      kernels: { '6.9.0-1': all, '6.10.0-1': all, '6.11.0-1': ['kernel/fs/ext4/ext4.ko'] },
    })
    const imported = await importIt(image)
    assert.equal(imported.kernel?.release, '6.10.0-1')
    assert.deepEqual(imported.warnings, ['Kernel 6.11.0-1 is not used: it has no nbd driver'])
  })

  it('imports an image without a kernel, and warns', async () => {
    const imported = await importIt(await newSystem('bare', { kernels: {} }))
    assert.equal(imported.kernel, undefined)
    assert.match(imported.warnings.join(), /has no kernel.*default boot kernel/)
  })

  it('refuses a kernel that cannot attach or unpack', async () => {
    const noNbd = await newSystem('no-nbd', { kernels: { '6.1': ['kernel/fs/ext4/ext4.ko'] } })
    await assertRefused(noNbd, 'KERNEL_UNUSABLE', /Kernel 6\.1 .*no nbd driver/)
    const noZstd = await newSystem('no-zstd', { config: ['CONFIG_BLK_DEV_INITRD=y'] })
    await assertRefused(noZstd, 'KERNEL_UNUSABLE', /without CONFIG_RD_ZSTD/)
  })

  it('never follows a link of the image to a file of the server', async () => {
    const folder = path('links')
    await mkdir(folder)
    await makeSystem(folder)
    await writeFile(path('secret'), fakeKernel('secret'))
    await rm(join(folder, 'boot', `vmlinuz-${RELEASE}`))
    await symlink(path('secret'), join(folder, 'boot', `vmlinuz-${RELEASE}`))
    await makeExt4(path('links.img'), folder)
    await assertRefused(path('links.img'), 'KERNEL_UNUSABLE', /is not a kernel for x86/)
  })

  it('says what is wrong with an image', async () => {
    await assertRefused(
      path('nowhere.img'),
      'IMAGE_MISSING',
      /nowhere\.img": there is no such file/,
    )
    await assertRefused(temporary.path, 'IMAGE_MISSING', /neither a file nor a block device/)
    await writeFile(path('empty.img'), '')
    await assertRefused(path('empty.img'), 'IMAGE_EMPTY', /0 bytes/)
    await writeFile(path('text.img'), 'this is a letter, not a disk\n'.repeat(5000))
    await assertRefused(path('text.img'), 'IMAGE_NOT_BOOTABLE', /neither a partition table nor/)
    await mkdir(path('files'))
    await writeFile(path('files/readme'), 'no system')
    await makeExt4(path('files.img'), path('files'))
    await assertRefused(path('files.img'), 'IMAGE_NOT_BOOTABLE', /no Linux system.*found: ext4/)
    await blank(path('zeros.img'), MiB)
    await assertRefused(path('zeros.img'), 'IMAGE_NOT_BOOTABLE', /neither a partition table nor/)
  })

  it('says when the end of an image is missing', async () => {
    for (const label of ['gpt', 'dos'] as const) {
      const disk = path(`cut-${label}.img`)
      await makeDisk(disk, label, [{ image: ext4, sizeBytes: EXT4_BYTES }])
      await truncate(disk, 10 * MiB)
      await assertRefused(disk, 'IMAGE_TRUNCATED', /the image/)
    }
    await copyFile(ext4, path('cut-ext4.img'))
    await truncate(path('cut-ext4.img'), EXT4_BYTES - 1)
    await assertRefused(
      path('cut-ext4.img'),
      'IMAGE_TRUNCATED',
      /its ext4 file system has 16777216/,
    )
  })

  it('leaves nothing when it is canceled', async () => {
    const controller = new AbortController()
    const versions = await store.listVersions()
    const deps = { store, bootFiles, spool, log: silentLog() }
    const onProgress = ({ stage }: { readonly stage: string }) => {
      if (stage === 'storing') controller.abort()
    }
    await assert.rejects(importImage({ path: ext4 }, deps, onProgress, controller.signal), {
      name: 'AbortError',
    })
    assert.deepEqual(await store.listVersions(), versions)
    assert.deepEqual((await readdir(path('state/store/versions'))).sort(), versions)
  })

  it('says which folder is full while it takes out the kernel', async () => {
    const small = path('small')
    await mkdir(small)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small])
    try {
      const deps = { store, bootFiles: await BootFiles.open(small), spool, log: silentLog() }
      const { signal } = new AbortController()
      await assert.rejects(
        importImage({ path: ext4 }, deps, () => undefined, signal),
        {
          code: 'STORE_FULL',
        },
      )
      assert.deepEqual(await readdir(join(small, 'boot/kernel')), [])
    } finally {
      await run('umount', [small])
    }
  })

  it('leaves no mount and no loop device, however it ends', async () => {
    const loops = async () => (await run('losetup', ['--associated', ext4])).stdout
    await eventually('loop devices are free', async () => (await loops()) === '')
    const script = fileURLToPath(new URL('../../support/interrupted-mount.ts', import.meta.url))
    const child = spawn(process.execPath, [script, ext4], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child.stdout, 'data')
    assert.notEqual(await loops(), '')
    assert.ok(!(await readFile('/proc/mounts', 'utf8')).includes('/dev/loop'), 'nobody sees it')
    child.kill('SIGKILL')
    await eventually('the killed server let go of it', async () => (await loops()) === '')
  })

  const bootFile = (id: string, name: string): string => {
    const found = bootFiles.find(id, name)
    assert.ok(found, `${name} of kernel ${id}`)
    return found
  }

  const archive = async (id: string, name: string, args: readonly string[]): Promise<string> => {
    const { stdout } = await run('sh', [
      '-c',
      'file=$1; shift; zstd -dcq "$file" 2>/dev/null | cpio --quiet "$@"',
      'sh',
      bootFile(id, name),
      ...args,
    ])
    return stdout
  }

  const archiveNames = async (id: string, name: string) =>
    (await archive(id, name, ['-t'])).split('\n')

  const textIn = async (id: string, name: string, file: string) =>
    await archive(id, name, ['-i', '--to-stdout', file])

  const drivers = async (id: string, name: string) => {
    const found = (await archiveNames(id, name)).map((it) => /([^/]+)\.ko$/.exec(it)?.[1])
    return found.filter((it) => it !== undefined).sort()
  }

  const hashOfVersion = async ({ committed }: ImportedImage): Promise<string> => {
    const reader = await store.openVersion(committed.versionId)
    await using _ = { [Symbol.asyncDispose]: () => reader.close() }
    const hash = createHash('sha256')
    for await (const { bytes, lengthBytes } of versionContent(
      reader,
      new AbortController().signal,
    )) {
      hash.update(bytes ?? new Uint8Array(lengthBytes))
    }
    return hash.digest('hex')
  }
})

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
