import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type PxeClient, programsFor, pxeClientOf } from '#server/pxe/boot-program.ts'
import { bootServerAck, offerDestination, proxyOffer } from '#server/pxe/proxy-dhcp.ts'
import {
  DHCP_OPTION,
  DHCP_TYPE,
  type DhcpMessage,
  encodeDhcpMessage,
  macBytes,
} from '#shared/dhcp/dhcp-message.ts'

const MACHINE_ID = Buffer.from('00'.repeat(17), 'hex')

const message = (
  vendorClass: string | undefined,
  options: ReadonlyMap<number, Uint8Array> = new Map(),
  more: Partial<DhcpMessage> = {},
): DhcpMessage => ({
  op: 'request',
  transactionId: 0x0102_0304,
  flags: 0x8000,
  hardwareAddress: macBytes('52:54:00:aa:00:01'),
  options: new Map<number, Uint8Array>([
    [DHCP_OPTION.messageType, Buffer.of(DHCP_TYPE.discover)],
    ...(vendorClass === undefined
      ? []
      : ([[DHCP_OPTION.vendorClass, Buffer.from(vendorClass)]] as const)),
    [DHCP_OPTION.machineId, MACHINE_ID],
    ...options,
  ]),
  ...more,
})

const arch = (value: number) =>
  [DHCP_OPTION.clientArchitecture, Buffer.of(value >> 8, value & 255)] as const
const userClass = [DHCP_OPTION.userClass, Buffer.from('iPXE')] as const
/** As iPXE of 2025 sends it: feature HTTP is tag 0x13. */
const features = (...tags: number[]) =>
  [DHCP_OPTION.ipxe, Buffer.from(tags.flatMap((tag) => [tag, 1, 1]))] as const

const bootFileFor = (client: PxeClient) =>
  client.isIpxe ? 'http://10.0.0.1:8080/boot.ipxe' : programsFor(client)[0]
const OPTIONS = { serverAddress: '10.0.0.1', bootFileFor }

describe('PXE clients', () => {
  const kindOf = (vendorClass: string, ...options: (readonly [number, Uint8Array])[]) =>
    pxeClientOf(message(vendorClass, new Map(options)))

  it('are told by vendor class and architecture, by number or in the text', () => {
    const bios = { kind: 'PXEClient', architecture: 0, isIpxe: false }
    assert.deepEqual(kindOf('PXEClient:Arch:00000:UNDI:002001', arch(0)), bios)
    assert.deepEqual(kindOf('PXEClient'), bios)
    const uefi = { ...bios, architecture: 7 }
    assert.deepEqual(kindOf('PXEClient:Arch:00007:UNDI:003016'), uefi)
    assert.deepEqual(kindOf('PXEClient:Arch:00000:UNDI:003016', arch(7)), uefi)
    const http = { kind: 'HTTPClient', architecture: 16, isIpxe: false }
    assert.deepEqual(kindOf('HTTPClient:Arch:00016:UNDI:003000', arch(16)), http)
    assert.equal(kindOf('MSFT 5.0'), undefined)
    assert.equal(pxeClientOf(message(undefined)), undefined)
  })

  it('iPXE is told by its user class or its options; one without HTTP counts as firmware', () => {
    const isIpxe = (...options: (readonly [number, Uint8Array])[]) =>
      kindOf('PXEClient:Arch:00000:UNDI:002001', ...options)?.isIpxe
    assert.equal(isIpxe(userClass), true)
    assert.equal(isIpxe(features(0x15, 0x13)), true)
    assert.equal(isIpxe(userClass, features(0x15)), false)
    assert.equal(isIpxe([DHCP_OPTION.userClass, Buffer.from('\x04iPXE')]), true)
    assert.equal(isIpxe([DHCP_OPTION.userClass, Buffer.from('gPXE')]), false)
  })

  it('every architecture has its own programs', () => {
    const first = (architecture: number) =>
      programsFor({ kind: 'PXEClient', architecture, isIpxe: false }).at(-1)
    assert.deepEqual([0, 7, 9, 16, 6, 11, 19].map(first), [
      'ipxe.pxe',
      'ipxe-amd64.efi',
      'ipxe-amd64.efi',
      'ipxe-amd64.efi',
      'ipxe-i386.efi',
      'ipxe-arm64.efi',
      'ipxe-arm64.efi',
    ])
    assert.equal(first(0x1234), undefined)
  })
})

describe('proxyDHCP', () => {
  it('offers a BIOS machine its program, and says that nothing is to be chosen', () => {
    const asked = message('PXEClient:Arch:00000:UNDI:002001', new Map([arch(0)]))
    const offer = proxyOffer(asked, OPTIONS)?.message
    assert.ok(offer)
    const packet = encodeDhcpMessage(offer)
    const header = packet.toString('hex', 0, 44)
    assert.equal(
      header,
      // op, xid, broadcast flag; no address for the client; siaddr; chaddr
      `02010600010203040000800000000000000000000a00000100000000${'525400aa0001'.padEnd(32, '0')}`,
    )
    assert.equal(offer.bootFile, 'undionly.kpxe')
    assert.equal(offer.serverName, '10.0.0.1')
    assert.deepEqual(
      [...offer.options].map(([code, value]) => [code, Buffer.from(value).toString('hex')]),
      [
        [53, '02'],
        [54, '0a000001'],
        [60, Buffer.from('PXEClient').toString('hex')],
        [97, MACHINE_ID.toString('hex')],
        [43, '060108ff'],
      ],
    )
    assert.deepEqual(offerDestination(asked), { address: '255.255.255.255', port: 68 })
  })

  it('answers HTTP firmware in its own name, without the options of PXE', () => {
    const asked = message('HTTPClient:Arch:00016:UNDI:003000', new Map([arch(16)]))
    const url = 'http://10.0.0.1:8080/ipxe/snponly.efi'
    const offer = proxyOffer(asked, { ...OPTIONS, bootFileFor: () => url })?.message
    assert.equal(offer?.bootFile, url)
    assert.equal(Buffer.from(offer?.options.get(60) ?? []).toString(), 'HTTPClient')
    assert.equal(offer?.options.has(43), false)
  })

  it('gives iPXE its script, never iPXE again', () => {
    for (const vendorClass of ['PXEClient', 'PXEClient:Arch:00007:UNDI:003010']) {
      const offer = proxyOffer(message(vendorClass, new Map([userClass])), OPTIONS)
      assert.equal(offer?.message.bootFile, 'http://10.0.0.1:8080/boot.ipxe')
    }
  })

  it('answers through a relay to the relay', () => {
    const asked = message('PXEClient', new Map(), { relayAddress: '10.9.0.1' })
    assert.equal(proxyOffer(asked, OPTIONS)?.message.relayAddress, '10.9.0.1')
    assert.deepEqual(offerDestination(asked), { address: '10.9.0.1', port: 67 })
  })

  it('says nothing to requests, to answers, to other clients, and when it has nothing', () => {
    const request = new Map([[DHCP_OPTION.messageType, Buffer.of(DHCP_TYPE.request)]])
    assert.equal(proxyOffer(message('PXEClient', request), OPTIONS), undefined)
    assert.equal(proxyOffer(message('PXEClient', new Map(), { op: 'reply' }), OPTIONS), undefined)
    assert.equal(proxyOffer(message('android-dhcp-11'), OPTIONS), undefined)
    assert.equal(
      proxyOffer(message('PXEClient'), { ...OPTIONS, bootFileFor: () => undefined }),
      undefined,
    )
    const long = { ...OPTIONS, bootFileFor: () => 'x'.repeat(128) }
    assert.equal(proxyOffer(message('PXEClient'), long), undefined)
  })

  it('answers on port 4011 with the same, for the address that the client has', () => {
    for (const type of [DHCP_TYPE.request, 8]) {
      const asked = message(
        'PXEClient:Arch:00007:UNDI:003016',
        new Map<number, Uint8Array>([arch(7), [DHCP_OPTION.messageType, Buffer.of(type)]]),
        { clientAddress: '10.0.0.77', flags: 0 },
      )
      const ack = bootServerAck(asked, OPTIONS)?.message
      assert.equal(ack?.clientAddress, '10.0.0.77')
      assert.equal(ack?.options.get(DHCP_OPTION.messageType)?.[0], DHCP_TYPE.ack)
      assert.equal(ack?.bootFile, 'shimx64.efi')
      assert.equal(ack?.flags, 0)
    }
    assert.equal(bootServerAck(message('PXEClient'), OPTIONS), undefined)
  })
})
