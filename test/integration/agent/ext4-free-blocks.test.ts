/** Free blocks by the bitmaps, against what e2fsprogs says of the same file system. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { ext4FreeRanges } from '#agent/capture/ext4-free-blocks.ts'
import { FileDiskDevice } from '#agent/local-disk/disk-device.ts'
import { KiB, MiB } from '#shared/units.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

const OFFSET = MiB

/** Of a file system that lies behind a MiB of something else. */
async function freeRanges(image: string) {
  const device = await FileDiskDevice.openToRead(image)
  try {
    return await ext4FreeRanges(device, OFFSET, device.sizeBytes - OFFSET)
  } finally {
    await device.close()
  }
}

async function makeFileSystem(folder: string, sizeBytes: number, ...options: string[]) {
  const tree = join(folder, 'tree')
  await mkdir(tree, { recursive: true })
  for (const name of ['a', 'b', 'c']) await writeFile(join(tree, name), randomBytes(300 * KiB))
  const image = join(folder, 'image')
  await writeFile(image, '')
  await truncate(image, OFFSET + sizeBytes)
  const place = ['-E', `offset=${OFFSET},lazy_itable_init=0`]
  const blocks = `${sizeBytes / KiB}k`
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', ...place, ...options, '-d', tree, image, blocks])
  return image
}

/** Free blocks as dumpe2fs lists them, of groups whose bitmap was written. */
async function expectedFree(image: string): Promise<Set<number>> {
  const { stdout } = await run('dumpe2fs', [`${image}?offset=${OFFSET}`])
  const free = new Set<number>()
  for (const group of stdout.split(/^Group /m).slice(1)) {
    if (group.includes('BLOCK_UNINIT')) continue
    const [, list = ''] = /^ {2}Free blocks: (.*)$/m.exec(group) ?? []
    for (const range of list.split(', ').filter(Boolean)) {
      const [first = '', last = first] = range.split('-')
      for (let block = Number(first); block <= Number(last); block += 1) free.add(block)
    }
  }
  return free
}

describe('ext4FreeRanges()', () => {
  for (const [name, blockBytes, sizeBytes, options] of [
    ['blocks of 1 KiB', KiB, 40 * MiB, ['-b', '1024']],
    ['blocks of 4 KiB', 4 * KiB, 300 * MiB, ['-b', '4096']],
    ['descriptors of 32 bytes', 4 * KiB, 64 * MiB, ['-b', '4096', '-O', '^64bit']],
    [
      'groups that know their bitmaps',
      4 * KiB,
      64 * MiB,
      ['-b', '4096', '-O', '^flex_bg,^uninit_bg'],
    ],
  ] as const) {
    it(`is what e2fsprogs says, with ${name}`, async () => {
      await using temporary = await createTemporaryFolder()
      const image = await makeFileSystem(temporary.path, sizeBytes, ...options)
      const free = await expectedFree(image)
      const ranges = await freeRanges(image)
      assert.ok(ranges.length > 0)
      let bytes = 0
      for (const { start, end } of ranges) {
        bytes += end - start
        for (let at = start; at < end; at += blockBytes) {
          assert.ok(free.has((at - OFFSET) / blockBytes), `block at ${at} is in use`)
        }
      }
      // Only pieces that are not worth it are left out.
      assert.ok(bytes > free.size * blockBytes * 0.95, `${bytes} of ${free.size * blockBytes}`)
    })
  }

  it('is nothing of what is not clean, of other features, or no ext4', async () => {
    await using temporary = await createTemporaryFolder()
    const image = await makeFileSystem(temporary.path, 40 * MiB)
    const poke = async (at: number, byte: number) => {
      const file = await open(image, 'r+')
      const before = Buffer.alloc(1)
      await file.read(before, 0, 1, OFFSET + 1024 + at)
      await file.write(Buffer.of(byte), 0, 1, OFFSET + 1024 + at)
      await file.close()
      return before[0] ?? 0
    }
    assert.ok((await freeRanges(image)).length > 0)
    for (const [at, byte] of [
      [0x3a, 0], // not unmounted
      [0x60, 0xc6], // its journal is to be replayed
      [0x60, 0xd2], // meta_bg
      [0x65, 0xff], // bigalloc
      [0x38, 0], // no ext4
      [0x18, 30], // blocks of a terabyte
      [0x21, 0], // no blocks in a group
      [0x07, 0xff], // more blocks than there are
      [0xfe, 1], // descriptors too short
    ] as const) {
      const before = await poke(at, byte)
      assert.deepEqual(await freeRanges(image), [], `byte ${at} is ${byte}`)
      await poke(at, before)
    }
  })
})
