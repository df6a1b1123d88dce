import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ModuleIndex, moduleName } from '#server/import/module-index.ts'

const index = new ModuleIndex({
  dependencies: [
    'kernel/drivers/net/e1000.ko:',
    'kernel/drivers/net/r8169.ko.xz: kernel/drivers/net/phy/mdio-devres.ko.xz kernel/drivers/net/phy/libphy.ko.xz',
    'kernel/drivers/net/phy/libphy.ko.xz:',
    'kernel/drivers/net/phy/mdio-devres.ko.xz: kernel/drivers/net/phy/libphy.ko.xz',
    'kernel/drivers/net/phy/realtek.ko.xz: kernel/drivers/net/phy/libphy.ko.xz',
    'kernel/fs/btrfs/btrfs.ko.zst: kernel/lib/libcrc32c.ko.zst',
    'kernel/lib/libcrc32c.ko.zst:',
    'kernel/crypto/crc32c_generic.ko:',
    'kernel/arch/x86/crypto/crc32c-intel.ko:',
  ].join('\n'),
  softDependencies: '# softdep\nsoftdep r8169 pre: realtek\nsoftdep libcrc32c pre: crc32c\n',
  aliases:
    'alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias crypto-crc32c crc32c_generic\n',
  builtin: 'kernel/fs/ext4/ext4.ko\n',
})

describe('ModuleIndex', () => {
  it('closure takes hard and soft dependencies, through aliases', () => {
    assert.deepEqual(index.closure(['r8169']), ['libphy', 'mdio_devres', 'r8169', 'realtek'])
    assert.deepEqual(index.closure(['btrfs']), [
      'btrfs',
      'crc32c_generic',
      'crc32c_intel',
      'libcrc32c',
    ])
  })

  it('closure leaves out what the kernel has built in or not at all', () => {
    assert.deepEqual(index.closure(['ext4', 'e1000', 'nonsense']), ['e1000'])
  })

  it('has knows modules and what is built in', () => {
    assert.ok(index.has('ext4'))
    assert.ok(index.has('crc32c_intel'))
    assert.ok(!index.has('nbd'))
  })

  it('inFolders takes what lies below', () => {
    const found = index.inFolders(['kernel/drivers/net/phy/']).sort()
    assert.deepEqual(found, ['libphy', 'mdio_devres', 'realtek'])
  })

  it('pathOf gives the path as depmod wrote it', () => {
    assert.equal(index.pathOf('mdio_devres'), 'kernel/drivers/net/phy/mdio-devres.ko.xz')
  })
})

describe('moduleName', () => {
  it('drops folder, packing and hyphens', () => {
    assert.equal(moduleName('kernel/a/virtio-net.ko.zst'), 'virtio_net')
    assert.equal(moduleName('nbd.ko'), 'nbd')
    assert.equal(moduleName('crc32c-intel'), 'crc32c_intel')
  })
})
