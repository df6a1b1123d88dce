import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileSystemNamed, parseFstab, subvolumeOption } from '#server/import/fstab.ts'

describe('parseFstab()', () => {
  it('reads lines as mount(8) does', () => {
    const text = [
      '# <device> <folder> <type> <options>',
      '',
      'UUID=1 / ext4 errors=remount-ro 0 1',
      '\tLABEL=my\\040home\t/home/ xfs defaults,nodev 0 2',
      'UUID=2 /home//ann\\040b btrfs subvol=@ann',
      '/dev/sda3 none swap sw 0 0',
      'UUID=4 /home/../etc ext4',
      'UUID=5',
    ].join('\n')
    assert.deepEqual(parseFstab(text), [
      { device: 'UUID=1', folder: '', options: 'errors=remount-ro' },
      { device: 'LABEL=my home', folder: '/home', options: 'defaults,nodev' },
      { device: 'UUID=2', folder: '/home/ann b', options: 'subvol=@ann' },
    ])
  })
})

describe('fileSystemNamed()', () => {
  const part = { partition: 2, offsetBytes: 0, sizeBytes: 1, type: 'X', uuid: 'AB-CD' }
  const home = { part, type: 'ext4', uuid: 'e1f2', label: 'home' }
  const location = { name: 'my--group-srv', uuid: '', segments: [] }
  const devices = ['/dev/my-group/srv', '/dev/mapper/my--group-srv']
  const volume = { location, devices, pieces: [] }
  const srv = { part: { ...part, volume }, type: 'xfs' }
  const all = [{ part: { ...part, uuid: 'other' }, type: 'vfat' }, home, srv]

  it('finds what the image has, however it is named', () => {
    for (const device of [
      'UUID=e1f2',
      'UUID="E1F2"',
      'LABEL=home',
      'PARTUUID=ab-cd',
      '/dev/disk/by-uuid/e1f2',
      '/dev/disk/by-partuuid/ab-cd',
    ]) {
      assert.equal(fileSystemNamed(device, all), home, device)
    }
  })

  it('finds a logical volume under both its names', () => {
    for (const device of devices) assert.equal(fileSystemNamed(device, all), srv, device)
  })

  it('does not guess', () => {
    for (const device of ['UUID=e1', 'UUID=', '/dev/sda2', 'server:/home', 'LABEL=undefined']) {
      assert.equal(fileSystemNamed(device, all), undefined, device)
    }
  })
})

it('subvolumeOption() is one option, whatever stands there', () => {
  assert.equal(subvolumeOption('noatime,subvol=@home,compress=zstd'), 'subvol=@home')
  assert.equal(subvolumeOption('defaults'), '')
  assert.equal(subvolumeOption('xsubvol=@home'), '')
})
