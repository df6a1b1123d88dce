import assert from 'node:assert/strict'
import { it } from 'node:test'
import { type DemoReport, formatReport } from '#test/demo/demo-report.ts'

const REPORT: DemoReport = {
  ok: true,
  login: true,
  hostname: 'client-1',
  phases: [
    { name: 'firmware', at_s: 0 },
    { name: 'ipxe', at_s: 5.42 },
    { name: 'login', at_s: 48.1 },
  ],
  wire_bytes: 18_500_000,
  image_bytes: 1024 ** 3,
  agent_rss_bytes: 100 * 1024 ** 2,
  initramfs_bytes: 45_000_000,
}

it('formatReport() shows when each phase was reached and how long it took', () => {
  assert.equal(
    formatReport(REPORT),
    `
client-1 is up. Its boot, in seconds since power-on and since the line before:
  firmware          0.00           power-on
  ipxe              5.42    +5.42  iPXE has asked the server what to boot
  login            48.10   +42.68  login prompt

  streamed          17.6 MiB of a vDisk of 1.00 GiB
  initramfs         42.9 MiB
  agent's memory    100.0 MiB
`,
  )
})
