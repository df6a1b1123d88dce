import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { type ImageSource, openImage, readSource } from '#server/import/source-image.ts'
import { Spool } from '#server/import/spool.ts'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { GiB, KiB, MiB } from '#shared/units.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

const IMAGE_BYTES = 6 * MiB

/** What every hypervisor has, in the variants people meet. */
const FORMATS: [string, string[], string][] = [
  ['qcow2', ['-O', 'qcow2'], 'qcow2'],
  ['qcow2 of version 2', ['-O', 'qcow2', '-o', 'compat=0.10'], 'qcow2'],
  ['qcow2, compressed', ['-O', 'qcow2', '-c', '-o', 'compression_type=zstd'], 'qcow2'],
  ['VMDK', ['-O', 'vmdk'], 'VMDK'],
  ['VMDK, compressed', ['-O', 'vmdk', '-o', 'subformat=streamOptimized'], 'VMDK'],
  ['VMDK with its data beside it', ['-O', 'vmdk', '-o', 'subformat=monolithicFlat'], 'VMDK'],
  ['VMDK in sparse extents', ['-O', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse'], 'VMDK'],
  ['VHD', ['-O', 'vpc', '-o', 'force_size=on'], 'VHD'],
  ['VHD of fixed size', ['-O', 'vpc', '-o', 'subformat=fixed,force_size=on'], 'raw'],
  ['VHDX', ['-O', 'vhdx'], 'VHDX'],
  ['VHDX of fixed size', ['-O', 'vhdx', '-o', 'subformat=fixed'], 'VHDX'],
  ['VDI', ['-O', 'vdi'], 'VDI'],
  ['VDI of fixed size', ['-O', 'vdi', '-o', 'static=on'], 'VDI'],
]

describe('openImage()', { timeout: 120_000 }, () => {
  let temporary: TemporaryFolder
  let spool: Spool
  /** Data, zeros and data again, ending in a piece of a block. */
  let raw: string
  let bytes: Buffer
  const path = (name: string) => join(temporary.path, name)
  const { signal } = new AbortController()

  before(async () => {
    temporary = await createTemporaryFolder()
    spool = await Spool.open(path('spool'))
    raw = path('disk.raw')
    bytes = Buffer.alloc(IMAGE_BYTES)
    randomBytes(MiB + 512).copy(bytes)
    randomBytes(300 * KiB).copy(bytes, 4 * MiB + 4096)
    bytes.write('the end', IMAGE_BYTES - 512)
    await writeFile(raw, bytes)
  })

  after(async () => {
    assert.deepEqual(await readdir(path('spool')), [], 'nothing is left in the spool')
    await temporary[Symbol.asyncDispose]()
  })

  const take = async (source: ImageSource, on: { readonly signal?: AbortSignal } = {}) => {
    await using stack = new AsyncDisposableStack()
    const stages = new Map<string, number>()
    const report = (stage: string, doneBytes: number) => void stages.set(stage, doneBytes)
    const image = await openImage(source, { spool, report, signal: on.signal ?? signal }, stack)
    const parts: Buffer[] = []
    let readBytes = 0
    for await (const { bytes, lengthBytes } of readSource(image, signal)) {
      parts.push(bytes === undefined ? Buffer.alloc(lengthBytes) : Buffer.from(bytes))
      readBytes += bytes?.length ?? 0
    }
    return { image, content: Buffer.concat(parts), readBytes, stages }
  }

  const refuses = async (source: ImageSource, code: ErrorCode, message: RegExp) => {
    await assert.rejects(take(source), (error: unknown) => {
      assert.ok(error instanceof BootwireError, String(error))
      assert.equal(error.code, code, error.message)
      assert.match(error.message, message)
      assert.doesNotMatch(error.message, /spool/, 'the name people know, not ours')
      return true
    })
  }

  for (const [name, options, format] of FORMATS) {
    it(`reads ${name}, byte for byte, whatever it is called`, async () => {
      const folder = path(name.replace(/\W+/g, '-'))
      await mkdir(folder)
      // Not a name that tells, and one that qemu-img must not take for options.
      const colon = name.startsWith('VMDK') ? '' : ':' // which no extent may have in its name
      const file = join(folder, `a,b=c${colon} disk.img`)
      await run('qemu-img', ['convert', '-f', 'raw', ...options, raw, `file:${file}`])
      const { image, content, stages } = await take({ path: file })
      assert.equal(image.format, format)
      assert.equal(image.sizeBytes, IMAGE_BYTES)
      assert.ok(content.equals(bytes))
      if (format !== 'raw') assert.equal(stages.get(`unpacking ${format}`), IMAGE_BYTES)
    })
  }

  it('takes a disk for raw that only ends like a VHD', async () => {
    const footer = Buffer.alloc(512)
    footer.write('conectix')
    footer.writeUInt32BE(2, 60)
    footer.writeBigUInt64BE(BigInt(IMAGE_BYTES - 512), 48)
    const alike = Buffer.concat([bytes.subarray(0, -512), footer])
    await writeFile(path('alike.img'), alike)
    assert.ok((await take({ path: path('alike.img') })).content.equals(alike))
  })

  it('reads what comes through a pipe, raw or not, in any pieces', async () => {
    const qcow2 = path('piped.qcow2')
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
    for (const [file, format] of [
      [raw, 'raw'],
      [qcow2, 'qcow2'],
    ] as const) {
      const whole = await readFile(file)
      const upload = (async function* () {
        for (let at = 0; at < whole.length; at += 99_991) yield whole.subarray(at, at + 99_991)
      })()
      const { image, content } = await take({ upload, name: 'standard input' })
      assert.equal(image.format, format)
      assert.ok(content.equals(bytes))
    }
    const nothing = (async function* (): AsyncGenerator<Uint8Array> {})()
    await refuses({ upload: nothing, name: 'standard input' }, 'IMAGE_EMPTY', /"standard input"/)
  })

  it('leaves nothing of a pipe that breaks', async () => {
    const breaking = (async function* () {
      yield bytes.subarray(0, MiB)
      throw new Error('aborted')
    })()
    await assert.rejects(take({ upload: breaking, name: 'x' }), /aborted/)
    assert.deepEqual(await readdir(path('spool')), [])
  })

  it('reads of a sparse file only what it has', async () => {
    const sparse = path('sparse.img')
    await using file = await open(sparse, 'w')
    await file.truncate(100 * GiB + 7)
    const data = randomBytes(64 * KiB)
    const places = [0, 3 * GiB, 50 * GiB + 4096, 100 * GiB - 128 * KiB]
    for (const place of places) await file.write(data, 0, data.length, place)
    await using stack = new AsyncDisposableStack()
    const deps = { spool, report: () => undefined, signal }
    const image = await openImage({ path: sparse }, deps, stack)
    const hash = createHash('sha256')
    let readBytes = 0
    let position = 0
    for await (const piece of readSource(image, signal)) {
      if (piece.bytes !== undefined) {
        readBytes += piece.lengthBytes
        hash.update(`${position} `).update(piece.bytes)
      }
      position += piece.lengthBytes
    }
    assert.equal(position, 100 * GiB + 7)
    assert.equal(readBytes, places.length * data.length)
    const expected = createHash('sha256')
    for (const place of places) expected.update(`${place} `).update(data)
    assert.equal(hash.digest('hex'), expected.digest('hex'))
  })

  it('reads a block device', async () => {
    const { stdout } = await run('losetup', ['--find', '--show', '--read-only', raw])
    const device = stdout.trim()
    try {
      assert.ok((await take({ path: device })).content.equals(bytes))
    } finally {
      await run('losetup', ['--detach', device])
    }
  })

  it('ends when it is canceled in the middle of unpacking', async () => {
    const qcow2 = path('canceled.qcow2')
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
    const controller = new AbortController()
    await using stack = new AsyncDisposableStack()
    const report = (stage: string) => void (stage.startsWith('unpacking') && controller.abort())
    const deps = { spool, report, signal: controller.signal }
    await assert.rejects(openImage({ path: qcow2 }, deps, stack), { name: 'AbortError' })
  })

  it('names the package of qemu-img when it is missing, and does without perl', async () => {
    const qcow2 = path('no-tools.qcow2')
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
    const sparse = path('no-tools.img')
    await run('cp', ['--sparse=always', raw, sparse])
    const { PATH } = process.env
    process.env['PATH'] = '/nowhere'
    try {
      await refuses({ path: qcow2 }, 'TOOL_MISSING', /"qemu-img".*package qemu-utils/)
      const { content, readBytes } = await take({ path: sparse })
      assert.ok(content.equals(bytes))
      assert.equal(readBytes, IMAGE_BYTES)
    } finally {
      process.env['PATH'] = PATH
    }
    assert.ok((await take({ path: sparse })).readBytes < IMAGE_BYTES / 2)
  })

  describe('refuses', () => {
    const secret = () => path('secret')

    before(async () => writeFile(secret(), 'secret\n'.repeat(10_000)))

    const image = async (name: string, change: (file: Buffer) => void, ...options: string[]) => {
      const file = path(name)
      await run('qemu-img', ['create', '-q', ...options, file, '4M'])
      const whole = await readFile(file)
      change(whole)
      await writeFile(file, whole)
      return { path: file }
    }
    const unchanged = () => undefined

    it('a qcow2 that stands on another file', async () => {
      const options = ['-f', 'qcow2', '-b', secret(), '-F', 'raw']
      const source = await image('backed.qcow2', unchanged, ...options)
      await refuses(source, 'IMAGE_NOT_BOOTABLE', /backing file/)
    })

    it('a qcow2 whose data lie in another file', async () => {
      const options = ['-f', 'qcow2', '-o', `data_file=${path('external')}`]
      const source = await image('external.qcow2', unchanged, ...options)
      await refuses(source, 'IMAGE_NOT_BOOTABLE', /data lie in another file/)
    })

    it('a qcow2 that is encrypted, of another version, or cut off', async () => {
      const of = (name: string, change: (file: Buffer) => void) =>
        image(name, change, '-f', 'qcow2')
      const encrypted = await of('encrypted', (file) => void file.writeUInt32BE(2, 32))
      await refuses(encrypted, 'IMAGE_NOT_BOOTABLE', /encrypted/)
      const old = await of('version-1', (file) => void file.writeUInt32BE(1, 4))
      await refuses(old, 'IMAGE_NOT_BOOTABLE', /version 1, expected 2 or 3/)
      const cut = await of('cut', () => undefined)
      await truncate(cut.path, 80)
      await refuses(cut, 'IMAGE_NOT_BOOTABLE', /cut off/)
    })

    it('a qcow2 whose tables are damaged, with what qemu-img says', async () => {
      const source = await image('damaged', (file) => void file.fill(0xff, 40, 48), '-f', 'qcow2')
      await refuses(source, 'TOOL_FAILED', /"qemu-img" ended with status 1: .*L1/)
    })

    it('a VMDK whose text leads out of its folder', async () => {
      const descriptor = (extent: string, parent = 'ffffffff') =>
        `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=${parent}\ncreateType="monolithicFlat"\n\n${extent}\n\nddb.adapterType = "ide"\n`
      await symlink(secret(), path('link.vmdk'))
      const cases: [string, RegExp][] = [
        [descriptor(`RW 128 FLAT "${secret()}" 0`), /not a file beside it/],
        [descriptor('RW 128 FLAT "../secret" 0'), /not a file beside it/],
        [descriptor('RW 128 FLAT "nbd:localhost:1" 0'), /not a file beside it/],
        [descriptor('RW 128 FLAT "json:{}" 0'), /not a file beside it/],
        [descriptor('RW 128 FLAT "link.vmdk" 0'), /is missing beside it, or is not a file/],
        [descriptor('RW 128 FLAT "gone.vmdk" 0'), /is missing beside it/],
        [descriptor('RW 128 VMFSRDM "secret" 0'), /line that is not known/],
        [descriptor(' RW 128 FLAT "secret" 0'), /line that is not known/],
        [descriptor('RW 128 SPARSE "secret"'), /no data of its own/],
        [descriptor(''), /names no extent/],
        [descriptor('RW 128 FLAT "secret" 0', '87654321'), /difference to another disk/],
        [descriptor('parentFileNameHint="secret"'), /difference to another disk/],
      ]
      for (const [index, [text, message]] of cases.entries()) {
        const file = path(`descriptor-${index}.img`)
        await writeFile(file, text)
        await refuses({ path: file }, 'IMAGE_NOT_BOOTABLE', message)
      }
      await writeFile(path('long.img'), descriptor('').padEnd(70_000, '\n'))
      await refuses({ path: path('long.img') }, 'IMAGE_NOT_BOOTABLE', /too long/)
    })

    it('a VMDK of a parent, or with another descriptor inside', async () => {
      const parent = await image(
        'hint.vmdk',
        (file) => {
          const at = file.indexOf('parentCID=ffffffff')
          file.write('parentCID=00000001', at)
        },
        '-f',
        'vmdk',
      )
      await refuses(parent, 'IMAGE_NOT_BOOTABLE', /difference to another disk/)
      const nested = await image('nested.vmdk', (file) => void file.fill(0, 12, 20), '-f', 'vmdk')
      await refuses(nested, 'IMAGE_NOT_BOOTABLE', /no data of its own/)
    })

    it('VHD and VDI that are the difference to another disk', async () => {
      const vhd = await image(
        'difference.vhd',
        (file) => void file.writeUInt32BE(4, 60),
        '-f',
        'vpc',
      )
      await refuses(vhd, 'IMAGE_NOT_BOOTABLE', /difference to another disk/)
      const vdi = await image(
        'difference.vdi',
        (file) => void file.writeUInt32LE(4, 76),
        '-f',
        'vdi',
      )
      await refuses(vdi, 'IMAGE_NOT_BOOTABLE', /difference to another disk/)
    })

    it('a VHD of fixed size that is cut off, or whose beginning is missing', async () => {
      const fixed = path('fixed.vhd')
      const options = ['-O', 'vpc', '-o', 'subformat=fixed,force_size=on']
      await run('qemu-img', ['convert', '-f', 'raw', ...options, raw, fixed])
      const whole = await readFile(fixed)
      await writeFile(path('short.vhd'), whole.subarray(MiB))
      await refuses({ path: path('short.vhd') }, 'IMAGE_TRUNCATED', /VHD footer.* 6291456 bytes/)
      const dynamic = path('dynamic.vhd')
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', raw, dynamic])
      await writeFile(path('headless.vhd'), (await readFile(dynamic)).subarray(512))
      await refuses({ path: path('headless.vhd') }, 'IMAGE_NOT_BOOTABLE', /beginning is missing/)
    })

    it('what is compressed as a whole, and says how it is imported', async () => {
      const file = path('disk.raw.xz')
      await copyFile(raw, path('copy.raw'))
      await run('xz', ['-0', path('copy.raw')])
      await copyFile(path('copy.raw.xz'), file)
      await refuses({ path: file }, 'IMAGE_NOT_BOOTABLE', /xzcat IMAGE \| bootwire vdisk import -/)
    })

    it('an image for which there is no room, before it begins', async () => {
      const qcow2 = path('large.qcow2')
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
      const small = path('small')
      await mkdir(small)
      await run('mount', ['-t', 'tmpfs', '-o', 'size=257m', 'tmpfs', small])
      try {
        await using stack = new AsyncDisposableStack()
        const full = await Spool.open(join(small, 'spool'))
        const deps = { spool: full, report: () => undefined, signal }
        await assert.rejects(openImage({ path: qcow2 }, deps, stack), {
          code: 'STORE_FULL',
          message:
            /while it is read it takes 1\.\d MiB in ".*small\/spool", where 257\.0 MiB are free and 256\.0 MiB must stay so/,
        })
        assert.deepEqual(await readdir(join(small, 'spool')), [])
      } finally {
        await run('umount', [small])
      }
    })
  })
})

it('Spool.open() removes what a killed server left', async () => {
  await using temporary = await createTemporaryFolder()
  const folder = join(temporary.path, 'spool')
  const spool = await Spool.open(folder)
  const spooled = await spool.create()
  await writeFile(spooled.path, 'rest')
  const next = await (await Spool.open(folder)).create()
  assert.equal((await readdir(folder)).length, 1)
  await next[Symbol.asyncDispose]()
  assert.deepEqual(await readdir(folder), [])
})
