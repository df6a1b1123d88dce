import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { type MediaOptions, renderMediaScript } from '#server/media/media-script.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../../golden/media/${name}.ipxe`, import.meta.url), 'utf8')

const TOKEN = `bwj_${'t'.repeat(43)}`
const PIN = 'p'.repeat(43)

const FULL: MediaOptions = {
  servers: ['10.0.0.1', 'boot.example.org:81'],
  pin: PIN,
  joinToken: TOKEN,
  address: '10.0.0.9/23',
  gateway: '10.0.0.254',
  dns: '10.0.0.253',
  vlan: 42,
}

describe('renderMediaScript()', () => {
  it('gives the golden text for a medium that is told nothing', () => {
    assert.equal(renderMediaScript({ servers: [] }), golden('bare'))
  })

  it('gives the golden text for one that is told everything', () => {
    assert.equal(renderMediaScript(FULL), golden('full'))
  })

  it('every goto has its label', () => {
    for (const options of [{ servers: [] }, FULL, { servers: ['a'], vlan: 1 }]) {
      const script = renderMediaScript(options)
      const labels = new Set([...script.matchAll(/^:(\w+)$/gm)].map(([, label]) => label))
      for (const [, label] of script.matchAll(/goto (\w+)/g)) assert.ok(labels.has(label), label)
      assert.doesNotMatch(script, /\{\{/)
    }
  })

  it('refuses what would not be what it says', () => {
    const wrong: readonly (readonly [Partial<MediaOptions>, RegExp])[] = [
      [{ servers: ['a b'] }, /--at a b/],
      [{ servers: ['http://a'] }, /--at http/],
      [{ pin: 'x' }, /--trust x/],
      [{ joinToken: 'secret\nshell' }, /--join-token …/],
      [{ address: '10.0.0.9' }, /--address 10\.0\.0\.9: expected/],
      [{ address: '10.0.0.9/33' }, /--address/],
      [{ gateway: 'x', address: '10.0.0.9/24' }, /--gateway x/],
      [{ dns: '10.0.0.1' }, /--dns 10\.0\.0\.1: expected it beside --address/],
      [{ vlan: 0 }, /--vlan 0/],
      [{ vlan: 4095 }, /--vlan 4095/],
    ]
    for (const [options, message] of wrong) {
      assert.throws(() => renderMediaScript({ servers: [], ...options }), {
        code: 'INVALID_ARGUMENT',
        message,
      })
    }
  })
})
