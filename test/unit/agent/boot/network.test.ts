import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bootInterface, NETWORK_FILE, networkFacts, networkUp } from '#agent/boot/network.ts'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { renderAssignments } from '#agent/boot/shell-assignments.ts'
import type { BootwireError } from '#shared/errors.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

describe('networkUp', { timeout: 10_000 }, () => {
  it('tells each trouble once, and returns the card and its address when it has one', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    const told: BootwireError[] = []
    const up = networkUp(folder, (error) => told.push(error), new AbortController().signal)
    const tell = (STATE: string, INTERFACE = '', ADDRESS = '') =>
      folder.write(NETWORK_FILE, renderAssignments({ STATE, INTERFACE, ADDRESS }))
    const troubles = [
      ['no-card', '', 'NO_NETWORK', /no driver for any/],
      ['no-link', 'eth0', 'NO_NETWORK', /^Cannot use eth0: it has no link$/],
      ['no-address', 'eth0', 'NO_ADDRESS', /^Cannot get an address on eth0 by DHCP$/],
      ['no-link', 'eth0', 'NO_NETWORK', /no link/],
    ] as const
    for (const [index, [state, card, code, message]] of troubles.entries()) {
      tell(state, card)
      await eventually('it is told', () => told.length === index + 1)
      tell(state, card)
      assert.equal(told[index]?.code, code)
      assert.match(told[index]?.message ?? '', message)
    }
    tell('a state of a newer script', 'eth0')
    tell('up', 'eth0', '10.0.2.15/24')
    assert.deepEqual(await up, { interfaceName: 'eth0', address: '10.0.2.15/24' })
    assert.equal(told.length, troubles.length)
  })

  it('returns at once when the card was up before, without a word', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = new RunFolder(temporary.path)
    folder.write(NETWORK_FILE, renderAssignments({ STATE: 'up', INTERFACE: 'a', ADDRESS: 'b' }))
    const up = await networkUp(folder, () => assert.fail(), new AbortController().signal)
    assert.deepEqual(up, { interfaceName: 'a', address: 'b' })
  })
})

it('bootInterface names the card, also while it has no address', async () => {
  await using temporary = await createTemporaryFolder()
  const folder = new RunFolder(temporary.path)
  assert.equal(bootInterface(folder), '')
  folder.write(NETWORK_FILE, renderAssignments({ STATE: 'no-address', INTERFACE: 'eth1' }))
  assert.equal(bootInterface(folder), 'eth1')
})

it('networkFacts() reads what the script has found so far', async () => {
  await using temporary = await createTemporaryFolder()
  const folder = new RunFolder(temporary.path)
  const nothing = { state: '', interfaceName: '', address: '', gateway: '', dnsServers: [] }
  assert.deepEqual(networkFacts(folder), nothing)
  const values = { STATE: 'up', INTERFACE: 'eth0', ADDRESS: '10.0.0.9/24', GATEWAY: '10.0.0.1' }
  folder.write(NETWORK_FILE, renderAssignments({ ...values, DNS: '10.0.0.2 10.0.0.3' }))
  assert.deepEqual(networkFacts(folder), {
    state: 'up',
    interfaceName: 'eth0',
    address: '10.0.0.9/24',
    gateway: '10.0.0.1',
    dnsServers: ['10.0.0.2', '10.0.0.3'],
  })
})
