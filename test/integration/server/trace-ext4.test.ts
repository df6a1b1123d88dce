/** What traces read of ext4 file systems that a distribution's own tools made. */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '#server/log.ts'
import type { VersionReader } from '#server/store/chunk-store.ts'
import type { VersionFacts } from '#server/traces/compared-version.ts'
import { elfNeeds } from '#server/traces/elf.ts'
import { Ext4, type FoundFile } from '#server/traces/ext4.ts'
import { FileMap } from '#server/traces/file-map.ts'
import { RootTree } from '#server/traces/root-tree.ts'
import { Traces } from '#server/traces/traces.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'
import { blockImage } from '#test/support/block-image.ts'
import { runProgram } from '#test/support/child-run.ts'
import { makeDisk, makeExt4, makeSystem, RELEASE } from '#test/support/fake-system.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'
import { MemoryTraceFiles } from '#test/support/memory-trace-files.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const IMAGE_BYTES = 32 * MiB

const readerOf = (image: Uint8Array) => async (offset: number, length: number) => {
  const bytes = new Uint8Array(length)
  bytes.set(image.subarray(offset, offset + length))
  return bytes
}

/** An image with these files, by path. */
async function makeImage(
  files: Readonly<Record<string, Uint8Array | string>>,
  options: readonly string[] = [],
): Promise<Uint8Array> {
  await using folder = await createTemporaryFolder()
  const tree = join(folder.path, 'tree')
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(tree, path, '..'), { recursive: true })
    await writeFile(join(tree, path), content)
  }
  const image = join(folder.path, 'image')
  await writeFile(image, new Uint8Array(IMAGE_BYTES))
  await runProgram('mkfs.ext4', ['-q', '-b', '4096', ...options, '-d', tree, image])
  return new Uint8Array(await readFile(image))
}

async function openFiles(image: Uint8Array): Promise<{ files: FoundFile[]; ext4: Ext4 }> {
  const ext4 = await Ext4.open(readerOf(image), 0)
  assert.ok(ext4 !== undefined)
  return { ext4, files: await filesOf(ext4) }
}

async function filesOf(ext4: Ext4): Promise<FoundFile[]> {
  const files: FoundFile[] = []
  for await (const file of ext4.files()) files.push(file)
  return files
}

const MANY = Object.fromEntries(
  Array.from({ length: 600 }, (_, at) => [
    `many/a rather long name of a file, number ${at}`,
    `${at}`,
  ]),
)

describe('Ext4', () => {
  it('gives every file where its content lies, for all sizes of blocks and inodes', async () => {
    const content = {
      'etc/small': 'small',
      'etc/empty': '',
      'deep/er/and/deeper/file': blockImage(3, 'deep'),
      large: blockImage(700, 'large'),
      'sparse at its end': blockImage(1, 'sparse'),
      ...MANY,
    }
    for (const options of [
      ['-b', '4096'],
      ['-b', '1024', '-I', '128'],
      ['-b', '2048', '-O', '^64bit'],
    ]) {
      const { files, ext4 } = await openFiles(await makeImage(content, options))
      const byPath = new Map(files.map((file) => [file.path, file]))
      for (const [path, expected] of Object.entries(content)) {
        const file = byPath.get(`/${path}`)
        assert.ok(file !== undefined, `${path} with ${options.join(' ')}`)
        const bytes = await ext4.readFile(file, 0, 2 * file.sizeBytes)
        assert.deepEqual(
          Buffer.from(bytes),
          Buffer.from(expected),
          `${path} with ${options.join(' ')}`,
        )
      }
      const folders = files.filter(({ kind }) => kind === 'folder').map(({ path }) => path)
      assert.ok(folders.includes('/') && folders.includes('/deep/er/and/deeper'))
    }
  })

  it('gives links with their targets', async () => {
    await using folder = await createTemporaryFolder()
    const tree = join(folder.path, 'tree')
    await mkdir(tree)
    await symlink('usr/lib', join(tree, 'lib'))
    const long = 'x'.repeat(100)
    await symlink(long, join(tree, 'long'))
    const image = join(folder.path, 'image')
    await makeExt4(image, tree)
    const { files } = await openFiles(new Uint8Array(await readFile(image)))
    const link = files.find(({ path }) => path === '/lib')
    assert.deepEqual([link?.kind, link?.target], ['link', 'usr/lib'])
    assert.equal(files.find(({ path }) => path === '/long')?.kind, 'link')
  })

  it('is not opened where there is another file system, or none', async () => {
    assert.equal(await Ext4.open(readerOf(new Uint8Array(MiB)), 0), undefined)
    assert.equal(await Ext4.open(readerOf(blockImage(64, 'noise')), 0), undefined)
  })

  it('has no place for what is allocated and was never written: it reads as zeros', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'image')
    await writeFile(path, await makeImage({ file: blockImage(3, 'written') }))
    await runProgram('debugfs', ['-w', '-R', 'fallocate /file 3 50', path])
    const { files } = await openFiles(new Uint8Array(await readFile(path)))
    const file = files.find(({ path }) => path === '/file')
    const blocks = file?.extents.reduce((sum, { blocks }) => sum + blocks, 0)
    assert.equal(blocks, 3)
  })

  it('is refused when a file lies outside of it', async () => {
    const image = await makeImage({ file: blockImage(3, 'x') })
    const { ext4, files } = await openFiles(image)
    const inode = files.find(({ path }) => path === '/file')?.inode ?? 0
    const { inodesPerGroup, inodeBytes } = ext4.geometry
    const inBlock = (((inode - 1) % inodesPerGroup) * inodeBytes) % 4096
    // Where the first extent of an inode begins: its header has 12 bytes.
    const startAt = ext4.inodeBlock(inode) * 4096 + inBlock + 0x28 + 12 + 8
    new DataView(image.buffer).setUint32(startAt, IMAGE_BYTES / 4096 - 1, true)
    await assert.rejects(openFiles(image), { code: 'FILESYSTEM_UNREADABLE' })
  })

  it('ends soon when an extent tree goes round in itself', async () => {
    const image = await makeImage({ file: blockImage(3, 'x') })
    const { ext4, files } = await openFiles(image)
    const file = files.find(({ path }) => path === '/file')
    const inode = file?.inode ?? 0
    const block = file?.extents[0]?.block ?? 0
    const { inodesPerGroup, inodeBytes } = ext4.geometry
    const inBlock = (((inode - 1) % inodesPerGroup) * inodeBytes) % 4096
    // A node that says it is of each depth in turn, all of whose children are itself.
    const putNode = (at: number, depth: number, children: number) => {
      const view = new DataView(image.buffer, at)
      view.setUint16(0, 0xf30a, true)
      view.setUint16(2, children, true)
      view.setUint16(6, depth, true)
      for (let child = 1; child <= children; child += 1) {
        view.setUint32(12 * child + 4, block + depth - 1, true)
        view.setUint16(12 * child + 8, 0, true)
      }
    }
    putNode(ext4.inodeBlock(inode) * 4096 + inBlock + 0x28, 3, 4)
    putNode((block + 2) * 4096, 2, 340)
    putNode((block + 1) * 4096, 1, 340)
    putNode(block * 4096, 0, 0)
    let reads = 0
    const opened = await Ext4.open((offset, length) => {
      reads += 1
      return readerOf(image)(offset, length)
    }, 0)
    assert.ok(opened !== undefined)
    const found = await filesOf(opened)
    assert.deepEqual(found.find(({ path }) => path === '/file')?.extents, [])
    assert.ok(reads < 1000, `${reads} reads`)
  })

  it('is refused before it looks at more files than there can be', async () => {
    const image = await makeImage({ 'folder/file': 'x' })
    const { ext4, files } = await openFiles(image)
    const folder = files.find(({ path }) => path === '/folder')
    const { inodesPerGroup, inodeBytes } = ext4.geometry
    const inode = folder?.inode ?? 0
    const inBlock = (((inode - 1) % inodesPerGroup) * inodeBytes) % 4096
    const inodeAt = ext4.inodeBlock(inode) * 4096 + inBlock
    const view = new DataView(image.buffer)
    // 64 MiB, all of it on the same 4 MiB, an entry in 16 bytes.
    view.setUint32(inodeAt + 4, 64 * MiB, true)
    const [begin, blocks] = [4096, 1024]
    view.setUint16(inodeAt + 0x28 + 2, 4, true)
    for (let extent = 0; extent < 4; extent += 1) {
      const at = inodeAt + 0x28 + 12 + 12 * extent
      view.setUint32(at, extent * blocks, true)
      view.setUint16(at + 4, blocks, true)
      view.setUint16(at + 6, 0, true)
      view.setUint32(at + 8, begin, true)
    }
    for (let at = begin * 4096; at < (begin + blocks) * 4096; at += 16) {
      view.setUint32(at, 11, true)
      view.setUint16(at + 4, 16, true)
      view.setUint8(at + 6, 1)
    }
    let reads = 0
    const opened = await Ext4.open((offset, length) => {
      reads += 1
      return readerOf(image)(offset, length)
    }, 0)
    assert.ok(opened !== undefined)
    await assert.rejects(filesOf(opened), { code: 'FILESYSTEM_UNREADABLE', message: /more than/ })
    assert.ok(reads < 1000, `${reads} reads`)
  })

  it('gives files or an error soon, whatever is damaged', async () => {
    const image = await makeImage({ a: 'a', 'b/c': blockImage(2, 'c'), ...MANY })
    // Where the metadata is: superblock, descriptors, bitmaps, inodes, folders.
    const { ext4, files } = await openFiles(image)
    const blocks = files.flatMap((file) => [
      ext4.inodeBlock(file.inode),
      ...(file.kind === 'folder' ? file.extents.map(({ block }) => block) : []),
    ])
    const places = [...new Set([0, 1, ...blocks])]
    const change = fc.record({
      block: fc.constantFrom(...places),
      at: fc.nat(4095),
      byte: fc.nat(255),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 20 }), async (changes) => {
        const damaged = image.slice()
        for (const { block, at, byte } of changes) damaged[block * 4096 + at] = byte
        try {
          const opened = await Ext4.open(readerOf(damaged), 0)
          if (opened !== undefined) await FileMap.read(opened, 0)
        } catch (error) {
          assert.ok(error instanceof BootwireError, String(error))
        }
      }),
      { numRuns: 150 },
    )
  })
})

describe('FileMap', () => {
  it('finds the file on each block, and the block of each part of a file', async () => {
    const image = await makeImage({ large: blockImage(700, 'large'), 'etc/small': 'small' })
    const ext4 = await Ext4.open(readerOf(image), 0)
    assert.ok(ext4 !== undefined)
    const map = await FileMap.read(ext4, 0)
    const large = map.find('/large')
    assert.ok(large !== undefined)
    const blocks = [...large.blocks]
    assert.equal(blocks.length, 700)
    for (const [fileBlock, block] of blocks.entries()) {
      assert.deepEqual(map.at(block), { file: large, fileBlock })
      assert.equal(map.blockOf(large, fileBlock), block)
    }
    assert.equal(map.blockOf(large, 700), undefined)
    assert.equal(map.at(0), undefined)
    assert.deepEqual([...map.metadataBlocks].slice(0, 2), [0, 1])
  })
})

describe('RootTree', () => {
  it('follows links as the system would, and gives up on those that go round', async () => {
    await using folder = await createTemporaryFolder()
    const tree = join(folder.path, 'tree')
    await makeSystem(tree)
    await symlink('loop', join(tree, 'loop'))
    await symlink('../../etc/../sbin', join(tree, 'etc/up'))
    const image = join(folder.path, 'image')
    await makeExt4(image, tree)
    const ext4 = await Ext4.open(readerOf(new Uint8Array(await readFile(image))), 0)
    assert.ok(ext4 !== undefined)
    const root = new RootTree(await FileMap.read(ext4, 0), ext4)
    assert.equal(root.find('/sbin/init')?.path, '/usr/lib/systemd/systemd')
    assert.equal(root.find('/etc/up/init')?.path, '/usr/lib/systemd/systemd')
    assert.equal(await root.text('/etc/os-release'), 'NAME=Test\nPRETTY_NAME="Test Linux 1"\n')
    assert.deepEqual(
      root.trail('/sbin/init').map(({ path }) => path),
      [
        '/sbin',
        '/usr',
        '/usr/sbin',
        '/usr/sbin/init',
        '/lib',
        '/usr',
        '/usr/lib',
        '/usr/lib/systemd',
        '/usr/lib/systemd/systemd',
      ],
    )
    assert.deepEqual([root.find('/loop'), root.find('/nothing/here')], [undefined, undefined])
    assert.deepEqual(root.list('/lib/systemd'), ['/usr/lib/systemd/systemd'])
  })
})

describe('elfNeeds', () => {
  it('names the loader and the libraries of a program', async () => {
    const program = await readFile(process.execPath)
    const needs = await elfNeeds(async (offset, length) =>
      program.subarray(offset, offset + length),
    )
    assert.match(needs?.interpreter ?? '', /\/ld-linux/)
    assert.ok(needs?.libraries.includes('libc.so.6'))
  })

  it('takes nothing else for a program, and never fails', async () => {
    const program = (await readFile('/bin/true')).subarray(0, 16_384)
    const part = (bytes: Uint8Array) => async (offset: number, length: number) =>
      bytes.subarray(offset, offset + length)
    assert.equal(await elfNeeds(part(Buffer.from('#!/bin/sh\n'))), undefined)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(700), fc.nat(255))), async (changes) => {
        const damaged = Buffer.from(program)
        for (const [at, byte] of changes) damaged[at] = byte
        await elfNeeds(part(damaged))
      }),
    )
  })
})

/** Versions in memory, with traces over them. */
function createTraces() {
  const store = new MemoryChunkStore()
  const files = new MemoryTraceFiles()
  const traces = new Traces({ files, store, now: Date.now, log: silentLog() })
  const add = (image: Uint8Array, partition = 0, release = RELEASE): VersionFacts => ({
    versionId: store.add(image).versionId,
    root: { partition, fsType: 'ext4', options: '' },
    kernel: { release },
  })
  return { store, traces, add }
}

/** Chunks, by first block, that hold any of a file. */
async function chunksOf(image: Uint8Array, reader: VersionReader, path: string): Promise<number[]> {
  const ext4 = await Ext4.open(readerOf(image), 0)
  assert.ok(ext4 !== undefined)
  const file = (await FileMap.read(ext4, 0)).find(path)
  assert.ok(file !== undefined, path)
  const indexes = new Set([...file.blocks].map((block) => reader.chunks.indexAt(block)))
  return [...indexes].filter((it) => it >= 0).map((index) => reader.chunks.firstBlock(index))
}

const positionsIn = async (traces: Traces, { versionId }: VersionFacts) =>
  new Set((await traces.list(versionId))?.chunks.map(({ position }) => position))

describe('Traces.prepare', () => {
  it('carries a boot over by file, also where all of the file has changed and moved', async () => {
    const { store, traces, add } = createTraces()
    const module = (release: string) => `usr/lib/modules/${release}/kernel/fs/fuse.ko`
    const before = await makeImage({
      'usr/bin/tool': blockImage(100, 'tool 1'),
      'usr/bin/other': blockImage(100, 'other'),
      [module('6.1')]: blockImage(60, 'module 6.1'),
    })
    const after = await makeImage({
      'usr/bin/a new one': blockImage(300, 'new'),
      'usr/bin/tool': blockImage(120, 'tool 2'),
      'usr/bin/other': blockImage(100, 'other'),
      [module('6.1')]: blockImage(60, 'module 6.1'),
      [module('6.2')]: blockImage(60, 'module 6.2'),
    })
    const [from, to] = [add(before, 0, '6.1'), add(after, 0, '6.2')]
    const old = await store.openVersion(from.versionId)
    const next = await store.openVersion(to.versionId)
    const read = [
      ...(await chunksOf(before, old, '/usr/bin/tool')),
      ...(await chunksOf(before, old, `/${module('6.1')}`)),
    ]
    const entries = read.map((position, atMs) => ({ position, atMs }))
    await traces.record(old, {
      bootId: 'a1',
      clientId: 'c1',
      isConfirmed: true,
      model: 'PC',
      entries,
    })
    await traces.prepare(to, [to, from])
    const view = await traces.view(to.versionId, next.chunks)
    assert.deepEqual([view.source, view.boots], ['carried', [{ model: 'PC', count: 1 }]])
    const carried = await positionsIn(traces, to)
    const tool = await chunksOf(after, next, '/usr/bin/tool')
    // The file has grown: its first 100 blocks were read.
    const expected = tool.filter((_, at) => at < tool.length - 3)
    assert.ok(expected.every((position) => carried.has(position)))
    const newModule = await chunksOf(after, next, `/${module('6.2')}`)
    assert.ok(
      newModule.every((position) => carried.has(position)),
      'the module of the new kernel',
    )
    const oldModule = await chunksOf(after, next, `/${module('6.1')}`)
    const neither = [
      ...oldModule.slice(1, -1),
      ...(await chunksOf(after, next, '/usr/bin/other')).slice(1, -1),
    ]
    assert.ok(
      neither.every((position) => !carried.has(position)),
      'nothing else',
    )
  })

  it('goes by content where no files can be looked into, and passes carried boots on', async () => {
    const { store, traces, add } = createTraces()
    const image = blockImage(300, 'no file system')
    const versions = [0, 40, 80].map((shift) => {
      return add(new Uint8Array(Buffer.concat([blockImage(shift, `head ${shift}`), image])))
    })
    const [first, second, third] = versions as [VersionFacts, VersionFacts, VersionFacts]
    const old = await store.openVersion(first.versionId)
    const position = old.chunks.firstBlock(10)
    await traces.record(old, {
      bootId: 'a1',
      clientId: 'c1',
      isConfirmed: true,
      model: 'PC',
      entries: [{ position, atMs: 5 }],
    })
    await traces.prepare(second, [second, first])
    assert.ok((await positionsIn(traces, second)).has(position + 40))
    await traces.prepare(third, [third, second, first])
    assert.ok((await positionsIn(traces, third)).has(position + 80))
  })

  it('guesses the first version by its files, in a partition too', async () => {
    await using folder = await createTemporaryFolder()
    const tree = join(folder.path, 'tree')
    await makeSystem(tree)
    await mkdir(join(tree, 'usr/bin'), { recursive: true })
    await copyFile('/bin/true', join(tree, 'usr/bin/mount'))
    await mkdir(join(tree, 'usr/lib/systemd/system/multi-user.target.wants'), { recursive: true })
    await mkdir(join(tree, 'opt'))
    await writeFile(join(tree, 'opt/daemon'), blockImage(40, 'daemon'))
    await writeFile(join(tree, 'opt/never started'), blockImage(200, 'never'))
    const unit = join(tree, 'usr/lib/systemd/system/daemon.service')
    await writeFile(unit, '[Service]\nExecStart=-/opt/daemon --run\n')
    await symlink(
      '../daemon.service',
      `${unit.replace('daemon.service', 'multi-user.target.wants')}/daemon.service`,
    )
    const image = join(folder.path, 'image')
    await makeExt4(image, tree)
    const bare = new Uint8Array(await readFile(image))
    const disk = join(folder.path, 'disk')
    await makeDisk(disk, 'gpt', [{ image, sizeBytes: 16 * MiB }])
    for (const [bytes, partition] of [
      [bare, 0],
      [new Uint8Array(await readFile(disk)), 1],
    ] as const) {
      const { store, traces, add } = createTraces()
      const version = add(bytes, partition)
      await traces.prepare(version, [version])
      const reader = await store.openVersion(version.versionId)
      assert.equal((await traces.view(version.versionId, reader.chunks)).source, 'guessed')
      const guessed = await positionsIn(traces, version)
      const shift = partition === 0 ? 0 : MiB / 4096
      const fileChunks = async (path: string) => {
        const ext4 = await Ext4.open(readerOf(bare), 0)
        assert.ok(ext4 !== undefined)
        const blocks = [...((await FileMap.read(ext4, 0)).find(path)?.blocks ?? [])]
        return blocks.map((block) => reader.chunks.firstBlock(reader.chunks.indexAt(block + shift)))
      }
      for (const path of ['/usr/lib/systemd/systemd', '/usr/bin/mount', '/opt/daemon']) {
        assert.ok(
          (await fileChunks(path)).every((position) => guessed.has(position)),
          path,
        )
      }
      const never = (await fileChunks('/opt/never started')).slice(40, -40)
      assert.ok(never.every((position) => !guessed.has(position)))
    }
  })

  it('fails for nobody when the version is gone, or its data is', async () => {
    const { store, traces, add } = createTraces()
    const version = add(await makeImage({ a: 'a' }))
    store.corruptBlock = 0
    await traces.prepare(version, [version])
    await store.removeVersion(version.versionId)
    await traces.prepare(version, [version])
    assert.equal(await traces.list(version.versionId), undefined)
  })
})
