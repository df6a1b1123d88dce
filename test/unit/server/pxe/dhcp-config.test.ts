import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { ENTRY_SCRIPT_PATH, programPath } from '#server/boot/boot-paths.ts'
import { DHCP_SERVERS, dhcpConfig } from '#server/pxe/dhcp-config.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../../golden/pxe/${name}.txt`, import.meta.url), 'utf8')

describe('dhcpConfig()', () => {
  for (const server of DHCP_SERVERS) {
    it(`gives the golden text for ${server}`, () => {
      const text = dhcpConfig(server, {
        address: '10.0.0.1',
        httpPort: 8080,
        scriptPath: ENTRY_SCRIPT_PATH,
        programPath,
        ipxeFolder: '/usr/lib/ipxe',
      })
      assert.equal(text, golden(server))
    })
  }
})
