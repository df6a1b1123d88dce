import assert from 'node:assert/strict'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ImageTree } from '#server/import/image-tree.ts'
import { isPlainPath } from '#server/import/initramfs-tree.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

describe('ImageTree', () => {
  let temporary: TemporaryFolder
  let tree: ImageTree
  const inImage = (path: string) => join(temporary.path, 'image', path)

  before(async () => {
    temporary = await createTemporaryFolder()
    await mkdir(inImage('usr/lib/deep'), { recursive: true })
    await writeFile(join(temporary.path, 'secret'), 'of the server')
    await writeFile(inImage('usr/lib/file'), 'of the image')
    await symlink('usr/lib', inImage('lib'))
    await symlink('/usr/lib/file', inImage('absolute'))
    await symlink('../../../../../../usr/lib/file', inImage('usr/lib/up'))
    await symlink('../secret', inImage('out'))
    await symlink(join(temporary.path, 'secret'), inImage('outAbsolute'))
    await symlink('/', inImage('usr/root'))
    await symlink('loop', inImage('loop'))
    tree = new ImageTree(join(temporary.path, 'image'))
  })
  after(() => temporary[Symbol.asyncDispose]())

  it('text follows links inside the image, wherever they seem to lead', async () => {
    for (const path of [
      '/usr/lib/file',
      'lib/file',
      '/absolute',
      '/lib/up',
      '/usr/root/lib/deep/../file',
    ]) {
      assert.equal(await tree.text(path, 100), 'of the image', path)
    }
  })

  it('file never leaves the image', async () => {
    for (const path of [
      '/out',
      '/outAbsolute',
      '/../secret',
      'usr/../../secret',
      '/usr/root/../secret',
    ]) {
      assert.equal(await tree.file(path), undefined, path)
    }
  })

  it('file is undefined for what is not there, no file, or a link to itself', async () => {
    for (const path of ['/nothing', '/usr', '/usr/lib/file/below', '/loop']) {
      assert.equal(await tree.file(path), undefined, path)
    }
  })

  it('list gives names in order, and none where there is no folder', async () => {
    assert.deepEqual(await tree.list('/lib'), ['deep', 'file', 'up'])
    assert.deepEqual(await tree.list('/nothing'), [])
    assert.deepEqual(await tree.list('/lib/file'), [])
  })

  it('text and copyOut refuse what is absurdly long', async () => {
    await assert.rejects(tree.text('/lib/file', 3), { code: 'IMAGE_NOT_BOOTABLE' })
    const target = join(temporary.path, 'copy')
    await assert.rejects(tree.copyOut('/lib/file', target, 3), { code: 'IMAGE_NOT_BOOTABLE' })
    assert.ok(await tree.copyOut('/absolute', target, 100))
    assert.equal(await readFile(target, 'utf8'), 'of the image')
  })
})

describe('isPlainPath', () => {
  it('takes paths of drivers and firmware, and nothing that climbs', () => {
    for (const path of [
      'a.ko',
      'kernel/drivers/net/r8169.ko.xz',
      'rtl_nic/rtl8168g-2.fw',
      'a..b/c',
    ]) {
      assert.ok(isPlainPath(path), path)
    }
    for (const path of ['', '/a', '../a', 'a/../b', 'a/..', 'a//b', 'a/', './a', 'a b', 'a\nb']) {
      assert.ok(!isPlainPath(path), path)
    }
  })
})
