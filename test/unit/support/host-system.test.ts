import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseHostSystem } from '#test/support/host-system.ts'

describe('parseHostSystem()', () => {
  it('knows the kernels of Debian and Ubuntu', () => {
    const debian = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
    assert.deepEqual(parseHostSystem(debian), {
      id: 'debian',
      version: '12',
      codename: 'bookworm',
      virtualKernel: 'linux-image-cloud-amd64',
      fullKernel: 'linux-image-amd64',
    })
    const ubuntu =
      'PRETTY_NAME="Ubuntu 24.04"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\n'
    assert.equal(parseHostSystem(ubuntu).virtualKernel, 'linux-image-virtual')
  })

  it('says what to do on another system', () => {
    const fedora = 'ID=fedora\nPRETTY_NAME="Fedora Linux 41"\nVERSION_CODENAME=""\n'
    assert.throws(() => parseHostSystem(fedora), /"Fedora Linux 41", expected Debian.*--disk FILE/)
  })
})
