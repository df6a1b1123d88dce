import assert from 'node:assert/strict'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import * as v from 'valibot'
import { readMachineFacts } from '#agent/machine/read-facts.ts'
import { machineFactsSchema } from '#shared/identity/machine-facts.ts'
import { MACS_MAX } from '#shared/wire/limits.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

describe('readMachineFacts', () => {
  let temporary: TemporaryFolder
  before(async () => {
    temporary = await createTemporaryFolder()
  })
  after(async () => {
    await temporary[Symbol.asyncDispose]()
  })

  /** A /sys with these files, and these folders where an interface has a device. */
  async function fakeSys(files: Readonly<Record<string, string>>): Promise<string> {
    const sys = await mkdtemp(join(temporary.path, 'sys-'))
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(sys, name)), { recursive: true })
      await writeFile(join(sys, name), text)
    }
    return sys
  }

  const card = (name: string, address: string) => ({
    [`class/net/${name}/address`]: `${address}\n`,
    [`class/net/${name}/device/vendor`]: '0x1af4\n',
  })

  it('names the card the machine booted from first, then its others by name', async () => {
    const sys = await fakeSys({
      ...card('eth1', '52:54:00:00:00:02'),
      ...card('eth0', '52:54:00:00:00:01'),
      ...card('wlan0', '52:54:00:00:00:AA'),
      ...card('usb0', '00:00:00:00:00:00'),
      ...card('ib0', '80:00:02:08:fe:80:00:00:00:00:00:00:52:54:00:03:00:01:02:03'),
      ...card('bond-slave', '52:54:00:00:00:01'),
      'class/net/lo/address': '00:00:00:00:00:00\n',
      'class/net/br0/address': '52:54:00:00:00:09\n',
    })
    assert.deepEqual(readMachineFacts('eth1', sys).macs, [
      '52:54:00:00:00:02',
      '52:54:00:00:00:01',
      '52:54:00:00:00:aa',
    ])
    assert.equal(readMachineFacts('', sys).macs[0], '52:54:00:00:00:01')
  })

  it('says what SMBIOS says, and nothing where vendors left a placeholder', async () => {
    const sys = await fakeSys({
      'class/dmi/id/product_uuid': '4C4C4544-0034-5910-8036-C7C04F4E4A32\n',
      'class/dmi/id/product_serial': 'To Be Filled By O.E.M.\n',
      'class/dmi/id/board_serial': ' /7N4YJ2/CN12/ \n',
      'class/dmi/id/sys_vendor': 'Dell Inc.\n',
      'class/dmi/id/product_name': '',
    })
    assert.deepEqual(readMachineFacts('eth0', sys), {
      macs: [],
      memoryBytes: totalmem(),
      uuid: '4c4c4544-0034-5910-8036-c7c04f4e4a32',
      boardSerial: '/7N4YJ2/CN12/',
      manufacturer: 'Dell Inc.',
    })
  })

  it('is something for the wire on a machine that tells nothing', async () => {
    assert.deepEqual(readMachineFacts('eth0', '/nowhere'), { macs: [], memoryBytes: totalmem() })
  })

  it('cuts and cleans what no server would take', async () => {
    const macs = Array.from({ length: MACS_MAX + 5 }, (_, at) =>
      card(`eth${at}`, `52:54:00:00:01:${at.toString(16).padStart(2, '0')}`),
    )
    const sys = await fakeSys({
      ...Object.assign({}, ...macs),
      'class/dmi/id/product_serial': `\x1b[2J${'x'.repeat(5000)}`,
      'class/dmi/id/sys_vendor': 'Ünïcode',
    })
    const facts = readMachineFacts('eth0', sys)
    assert.ok(v.is(machineFactsSchema, facts))
    assert.equal(facts.macs.length, MACS_MAX)
    assert.match(facts.systemSerial ?? '', /^\?\[2Jx{124}$/)
    assert.match(facts.manufacturer ?? '', /^\?+n\?+code$/)
  })
})
