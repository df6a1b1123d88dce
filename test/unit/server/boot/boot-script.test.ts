import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import {
  assertKernelParameters,
  type KernelScript,
  renderEntryScript,
  renderKernelScript,
  renderMessageScript,
  type ScriptServers,
} from '#server/boot/boot-script.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../../golden/ipxe/${name}.ipxe`, import.meta.url), 'utf8')

const KERNEL_ID = 'c0ffee'.padEnd(64, '0')

const SERVERS: ScriptServers = {
  serverUrl: 'http://10.0.2.2:8080',
  otherUrls: ['http://10.0.2.3:8080'],
  hasMemtest: true,
}

const KERNEL: KernelScript = {
  ...SERVERS,
  title: 'loading lab (kernel 6.1.0-9-test) from 10.0.2.2',
  kernelPath: `/files/kernel/${KERNEL_ID}/vmlinuz`,
  initrds: [
    { name: 'agent.img', path: '/files/agent.img' },
    { name: 'modules.img', path: `/files/kernel/${KERNEL_ID}/modules.img?boot=0123456789abcdef` },
  ],
  parameters: {
    servers: [{ host: '10.0.2.2', port: 8443 }],
    pin: 'abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE',
    kernelId: KERNEL_ID,
    bootId: '0123456789abcdef',
  },
  kernelParameters: '',
}

describe('boot scripts', () => {
  it('renderEntryScript gives the golden text', () => {
    assert.equal(renderEntryScript(SERVERS), golden('entry'))
  })

  it('renderKernelScript gives the golden text', () => {
    assert.equal(renderKernelScript(KERNEL), golden('kernel'))
  })

  it("renderKernelScript puts the server's own parameters behind the consoles", () => {
    const script = renderKernelScript({ ...KERNEL, kernelParameters: ' console=ttyS1 debug ' })
    assert.ok(script.includes(' quiet console=ttyS1 debug bootwire.servers='))
  })

  it('renderMessageScript gives the golden text', () => {
    const script = renderMessageScript({
      ...SERVERS,
      reason: 'This server has no vDisk with a kernel yet',
      action: 'Import one on the server: bootwire vdisk import FILE',
      server: '10.0.2.2',
    })
    assert.equal(script, golden('message'))
  })

  it('renderMessageScript lets no text become a command', () => {
    const evil = 'a\nshell\r#!ipxe ${net0/mac} || reboot && exit \u{1f600}'
    const script = renderMessageScript({ ...SERVERS, reason: evil, action: evil, server: evil })
    const plain = renderMessageScript({ ...SERVERS, reason: 'x', action: 'x', server: 'x' })
    assert.equal(script.split('\n').length, plain.split('\n').length)
    const told = script.split('\n').filter((line) => line.includes('net0'))
    assert.equal(told.length, 3)
    for (const line of told) assert.doesNotMatch(line, /[$|&#{}]/)
  })

  it('assertKernelParameters refuses what iPXE would make something of', () => {
    assertKernelParameters('console=ttyS1,115200n8 nosmt=force a.b=c:d@e')
    for (const text of ['a\nboot', '${ip}', 'a || b', 'x'.repeat(1025), 'a&&b', '"a"']) {
      assert.throws(() => assertKernelParameters(text), { code: 'INVALID_ARGUMENT' })
    }
  })

  it('every address is whole: iPXE looks for a path alone on the DHCP server, after DHCP', () => {
    const message = renderMessageScript({ ...SERVERS, reason: 'a', action: 'b', server: 'c' })
    for (const script of [renderEntryScript(SERVERS), renderKernelScript(KERNEL), message]) {
      const commands = script.matchAll(/^.*\b(?:chain|kernel|initrd|imgfetch)( .*)$/gm)
      const addresses = [...commands].flatMap(
        ([, args = '']) => args.replace(/ echo .*$/, '').match(/(?<= )(?:http:|\/)\S+/g) ?? [],
      )
      assert.ok(addresses.length > 2)
      for (const address of addresses) assert.match(address, /^http:\/\/10\.0\.2\.[23]:8080\//)
    }
  })

  it('asks the other servers when this one is silent, and goes to the next when it fails', () => {
    const asked = renderEntryScript(SERVERS).match(/^chain .*\/boot\?/gm) ?? []
    assert.deepEqual(
      asked.map((line) => /http:\/\/[^/]+/.exec(line)?.[0]),
      [SERVERS.serverUrl, ...SERVERS.otherUrls],
    )
    const kernel = renderKernelScript(KERNEL)
    assert.match(kernel, /^chain --replace --autofree http:\/\/10\.0\.2\.3:8080\/boot\.ipxe \|\| /m)
  })

  it('has a memory test in the menu only where the server has one', () => {
    const without = renderEntryScript({ ...SERVERS, hasMemtest: false })
    assert.doesNotMatch(without, /memtest/)
    assert.match(renderEntryScript(SERVERS), /^item memtest .*$[^]*^:memtest$/m)
  })

  it('every goto has its label', () => {
    const message = renderMessageScript({ ...SERVERS, reason: 'a', action: 'b', server: 'c' })
    for (const script of [renderEntryScript(SERVERS), renderKernelScript(KERNEL), message]) {
      const labels = new Set([...script.matchAll(/^:(\w+)$/gm)].map(([, label]) => label))
      const items = [...script.matchAll(/^item (\w+)/gm)].map(([, item]) => item)
      const jumps = [...script.matchAll(/goto (\w+)/g)].map(([, label]) => label)
      for (const label of [...items, ...jumps]) assert.ok(labels.has(label), label)
    }
  })
})
