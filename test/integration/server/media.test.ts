/** Bootstrap media as they are written; that they boot is in test/e2e/full/ways-in.test.ts. */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { buildMedia, type MediaKind } from '#server/media/media-image.ts'
import { IPXE_FOLDER } from '#server/pxe/ipxe-folder.ts'
import { runProgram } from '#test/support/child-run.ts'
import { runBootwire } from '#test/support/server-process.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const SCRIPT = '#!ipxe\nshell\n'
const USB_PARTITION = 1_048_576

describe('bootstrap media', () => {
  let temporary: TemporaryFolder
  let ipxeFolder: string
  const path = (name: string) => join(temporary.path, name)
  const { signal } = new AbortController()
  const build = async (kind: MediaKind, name: string) => {
    await buildMedia({ kind, path: path(name), script: SCRIPT, ipxeFolder }, signal)
    return path(name)
  }

  before(async () => {
    temporary = await createTemporaryFolder()
    // The package's for a BIOS; for UEFI anything that knows the name of its script.
    ipxeFolder = path('ipxe')
    await mkdir(ipxeFolder)
    await copyFile(join(IPXE_FOLDER, 'ipxe.lkrn'), join(ipxeFolder, 'ipxe.lkrn'))
    await writeFile(join(ipxeFolder, 'ipxe.efi'), `${'x'.repeat(100_000)}autoexec.ipxe`)
  })
  after(async () => await temporary[Symbol.asyncDispose]())

  it('a stick has a FAT partition with the script, on which it can be edited', async () => {
    const image = await build('usb', 'stick.img')
    const fat = `${image}@@${USB_PARTITION}`
    assert.equal(await runProgram('mtype', ['-i', fat, '::/autoexec.ipxe']), SCRIPT)
    const table = await runProgram('sfdisk', ['--dump', image])
    assert.match(table, /start= +2048, size= +63488, type=e, bootable/)
    assert.match(await runProgram('mdir', ['-b', '-i', fat, '::/EFI/BOOT']), /BOOTX64\.EFI/)
    await runProgram('mcopy', ['-n', '-i', fat, '::/boot/ipxe.krn', path('ipxe.krn')])
    const lkrn = await readFile(join(ipxeFolder, 'ipxe.lkrn'))
    assert.deepEqual(await readFile(path('ipxe.krn')), lkrn)
  })

  it('an ISO can be started by both kinds of firmware, from a CD and from a stick', async () => {
    const image = await build('iso', 'cd.iso')
    const report = await runProgram('xorriso', [
      '-indev',
      image,
      '-report_el_torito',
      'plain',
      '-report_system_area',
      'plain',
    ])
    assert.match(report, /El Torito boot img : +1 +BIOS +y/)
    assert.match(report, /El Torito boot img : +2 +UEFI +y/)
    assert.match(report, /isohybrid.*protective-msdos-label|MBR partition/)
  })

  it('a folder for an EFI system partition has iPXE and its script', async () => {
    const folder = await build('efi', 'esp')
    assert.deepEqual((await readdir(folder)).sort(), ['autoexec.ipxe', 'ipxe.efi'])
  })

  it('refuses an iPXE that would not find its script, and a folder without one', async () => {
    await mkdir(path('old'))
    await writeFile(path('old/ipxe.efi'), 'iPXE of 2019')
    const run = async (folder: string) =>
      await runBootwire('media', 'usb', path('no.img'), '--ipxe-folder', folder)
    const old = await run(path('old'))
    assert.equal(old.status, 1)
    assert.match(old.stderr, /BW-E113 Cannot make a medium with .*ipxe\.efi: .*older than 2021/)
    const none = await run(path('nowhere'))
    assert.match(none.stderr, /BW-E112 .*nowhere has no ipxe\.efi/)
    assert.deepEqual((await readdir(temporary.path)).includes('no.img'), false)
  })

  it('leaves what is there as it was when it cannot write', async () => {
    await mkdir(path('full'))
    await writeFile(path('full/file'), 'kept')
    await assert.rejects(build('usb', 'full'), { code: 'ALREADY_EXISTS' })
    await assert.rejects(build('efi', 'full'), { code: 'ALREADY_EXISTS' })
    assert.equal(await readFile(path('full/file'), 'utf8'), 'kept')
    await assert.rejects(build('usb', 'nowhere/stick.img'), { code: 'PERMISSION_DENIED' })
  })

  it('the command says what is wrong with an option', async () => {
    const { status, stderr } = await runBootwire('media', 'usb', path('x'), '--vlan', '5000')
    assert.equal(status, 2)
    assert.match(stderr, /--vlan 5000: expected a number from 1 to 4094/)
  })
})
