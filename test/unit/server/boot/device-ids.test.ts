import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { deviceFromAlias, deviceFromBusId, devicesOf } from '#server/boot/device-ids.ts'

describe('device ids', () => {
  it('deviceFromBusId knows PCI and USB as iPXE reports them', () => {
    assert.equal(deviceFromBusId('01-1a-f4-10-00'), 'pci:1af4:1000')
    assert.equal(deviceFromBusId('0a-0b-da-81-52'), 'usb:0bda:8152')
    for (const other of ['', '07-00-00-00-00', '01-1a-f4-10', '01:1a:f4:10:00', 'zz-1a-f4-10-00']) {
      assert.equal(deviceFromBusId(other), undefined)
    }
  })

  it('deviceFromAlias knows single devices and all of a vendor, not classes', () => {
    assert.equal(deviceFromAlias('pci:v00008086d0000100Esv*sd*bc*sc*i*'), 'pci:8086:100e')
    assert.equal(deviceFromAlias('pci:v00001AF4d*sv*sd*bc*sc*i*'), 'pci:1af4:*')
    assert.equal(deviceFromAlias('usb:v0BDAp8152d*dc*dsc*dp*icFFiscFFip00in*'), 'usb:0bda:8152')
    assert.equal(deviceFromAlias('pci:v*d*sv*sd*bc0Csc03i30*'), undefined)
    assert.equal(deviceFromAlias('virtio:d00000001v*'), undefined)
  })

  it('devicesOf reads modules and what is built in', () => {
    const alias = [
      '# Aliases',
      'alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000',
      'alias pci:v00008086d0000100Esv*sd*bc*sc*i* other',
      'alias net-pf-17 af_packet',
    ].join('\n')
    const builtin = 'virtio_pci.license=GPL\0virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\0'
    assert.deepEqual(devicesOf(alias, builtin), ['pci:1af4:*', 'pci:8086:100e'])
  })
})
