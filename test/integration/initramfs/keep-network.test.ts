/** What the initramfs leaves in /run for the network services of the system. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { filesInRun } from '#test/support/run-folder-files.ts'

const MAC = '52:54:00:00:00:01'

const SKIPPED = '[Unit]\nConditionPathExists=!/run/bootwire\n'

it('keep-network.sh has every network service keep off the card of the root', async () => {
  assert.deepEqual(await filesInRun('keep-network.sh', MAC, '10.0.2.3', '10.0.2.4'), {
    'NetworkManager/conf.d/bootwire.conf': `[main]\nrc-manager=unmanaged\n[device-bootwire]\nmatch-device=mac:${MAC},interface-name:bootwire\nmanaged=0\n`,
    'systemd/network/00-bootwire.network': `[Match]\nMACAddress=${MAC}\n[Link]\nUnmanaged=yes\n`,
    'systemd/network/00-bootwire-agent.network': '[Match]\nName=bootwire\n[Link]\nUnmanaged=yes\n',
    'sysctl.d/zz-bootwire-network.conf': 'net.ipv4.ip_local_reserved_ports = 63488-64511\n',
    'systemd/resolved.conf.d/bootwire.conf': '[Resolve]\nDNS=10.0.2.3 10.0.2.4\n',
    'systemd/system/ifup@.service.d/bootwire.conf': SKIPPED,
    'systemd/system/networking.service.d/bootwire.conf': SKIPPED,
    'systemd/system/systemd-networkd-wait-online.service.d/bootwire.conf': SKIPPED,
  })
})

it('keep-network.sh leaves the resolver alone where DHCP named none', async () => {
  const files = await filesInRun('keep-network.sh', MAC)
  assert.equal('systemd/resolved.conf.d/bootwire.conf' in files, false)
})
