/** What the agent leaves in /run/bootwire for /init and for its successor. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Resume, readResume, writeResume } from '#agent/boot/resume-file.ts'
import { writeRootEnv } from '#agent/boot/root-env.ts'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { parseAssignments } from '#agent/boot/shell-assignments.ts'
import type { FileSystemLocation, RootLocation } from '#shared/wire/messages.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const version = new MemoryVersion(Buffer.alloc(4096, 'x'))
const opened = (fields: Parameters<MemoryVersion['opened']>[0]) => version.opened(fields)

const RESUME: Resume = {
  bootId: 'b'.repeat(32),
  hostname: 'client-1',
  machineId: 'a'.repeat(32),
  opened: opened({
    kernel: { id: 'cafe0123', release: '6.1', kernelPath: '/k', initrdPaths: ['/i'] },
  }),
  hasLocalDisk: false,
  hasKey: true,
  places: { ramTierBytes: 4_000_000, ramBytes: 1_000_000, diskBytes: 0, isKept: false },
}

describe('writeRootEnv', () => {
  it('names a partition of the device, or the device itself', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    const root = { partition: 3, fsType: 'btrfs', options: 'subvol=@' }
    writeRootEnv(folder, '/dev/nbd0', { ...RESUME, opened: opened({ root }) })
    const text = folder.read('root.env')
    assert.equal(
      text,
      `VOLUMES=''
ROOT_DEVICE='/dev/nbd0p3'
ROOT_FSTYPE='btrfs'
ROOT_OPTIONS='subvol=@'
USR_DEVICE=''
USR_FSTYPE=''
USR_OPTIONS=''
CLIENT_HOSTNAME='client-1'
CLIENT_MACHINE_ID='${'a'.repeat(32)}'
`,
    )
    const bare = opened({ root: { ...root, partition: 0 } })
    writeRootEnv(folder, '/dev/nbd0', { ...RESUME, opened: bare })
    assert.match(folder.read('root.env') ?? '', /^ROOT_DEVICE='\/dev\/nbd0'$/m)
  })

  it('has logical volumes put together, each once', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    const lines = (root: RootLocation) => {
      writeRootEnv(folder, '/dev/nbd0', { ...RESUME, opened: opened({ root }) })
      return parseAssignments(folder.read('root.env') ?? '')
    }
    const segments = [
      { partition: 2, startSector: 2048, sectors: 100 },
      { partition: 3, startSector: 4096, sectors: 50 },
    ]
    const volume = { name: 'vg-root', uuid: 'LVM-1', segments }
    const root = { partition: 2, fsType: 'ext4', options: '', volume }
    const usrVolume = {
      name: 'vg-usr',
      uuid: 'LVM-2',
      segments: [{ ...segments[1], partition: 0 }],
    }
    const usr = { ...root, fsType: 'xfs', partition: 3, volume: usrVolume } as FileSystemLocation
    const values = lines({ ...root, usr })
    assert.equal(
      values.get('VOLUMES'),
      'vg-root,LVM-1,,rw,0 100 linear /dev/nbd0p2 2048,100 50 linear /dev/nbd0p3 4096;vg-usr,LVM-2,,rw,0 50 linear /dev/nbd0 4096',
    )
    assert.equal(values.get('ROOT_DEVICE'), '/dev/mapper/vg-root')
    assert.equal(values.get('USR_DEVICE'), '/dev/mapper/vg-usr')
    assert.equal(values.get('USR_FSTYPE'), 'xfs')
    const one = lines({ ...root, usr: { ...root, options: 'subvol=usr' } })
    assert.equal(one.get('VOLUMES')?.includes(';'), false)
    assert.equal(
      lines({ ...root, usr: { ...usr, partition: 5, volume: undefined } }).get('USR_DEVICE'),
      '/dev/nbd0p5',
    )
  })
})

describe('readResume', () => {
  it('is undefined at the start of a boot, and what writeResume wrote after that', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    assert.equal(readResume(folder), undefined)
    writeResume(folder, RESUME)
    assert.deepEqual(readResume(folder), RESUME)
  })

  it('throws for a file that is not one of ours, rather than serve a root from it', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    for (const text of [
      '',
      '{}',
      '[]',
      JSON.stringify({ ...RESUME, opened: { kind: 'opened' } }),
    ]) {
      folder.write('resume.json', text)
      assert.throws(() => readResume(folder))
    }
  })
})
