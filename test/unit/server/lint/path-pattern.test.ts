import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { step, trailsBelow, trailsOf } from '#server/lint/path-pattern.ts'

/** True when the pattern leads to this path. */
function leads(pattern: string, path: string): boolean {
  const names = path.split('/').slice(1)
  const last = names.pop() ?? ''
  const folder = names.map((name) => `/${name}`).join('')
  return step(trailsBelow(trailsOf('it', pattern), folder), last).owners.length > 0
}

describe('step()', () => {
  it('follows a pattern down to the files that match, and to no others', () => {
    const cases: [pattern: string, matching: string[], others: string[]][] = [
      ['/etc/shadow', ['/etc/shadow'], ['/shadow', '/etc/shadow/x', '/etc/shadow-', '/etcshadow']],
      [
        '/etc/*.conf',
        ['/etc/a.conf', '/etc/.conf'],
        ['/etc/a/b.conf', '/etc/aconf', '/etc/a.conf2'],
      ],
      ['/etc/a*b*c', ['/etc/abc', '/etc/a\nb c'], ['/etc/acb', '/etc/xabc']],
      [
        '/etc/**/*.key',
        ['/etc/x.key', '/etc/a/b/c/x.key'],
        ['/x.key', '/etc/a/x.keys', '/var/x.key'],
      ],
      ['/a/**/b/**/c', ['/a/b/c', '/a/x/b/y/z/c', '/a/b/b/c'], ['/a/c', '/a/b/d', '/a/x/c']],
      ['/etc/+(x)', ['/etc/+(x)'], ['/etc/x', '/etc/xx']],
    ]
    for (const [pattern, matching, others] of cases) {
      for (const path of matching) assert.ok(leads(pattern, path), `${pattern} ${path}`)
      for (const path of others) assert.ok(!leads(pattern, path), `${pattern} ${path}`)
    }
  })

  it('finds every home', () => {
    for (const path of ['/root/.x', '/home/a/.x', '/var/home/a/.x', '/var/roothome/.x']) {
      assert.ok(leads('~/.x', path), path)
    }
    for (const path of ['/home/.x', '/root/a/.x', '/.x', '/home/a/b/.x']) {
      assert.ok(!leads('~/.x', path), path)
    }
  })

  it('leaves no trail where nothing can match', () => {
    const trails = ['/etc/ssh/*_key', '/var/lib/iwd/*.psk'].flatMap((it) => trailsOf('it', it))
    assert.equal(trailsBelow(trails, '/usr').length, 0)
    assert.equal(trailsBelow(trails, '/var').length, 1)
    assert.equal(trailsBelow(trails, '/var/lib/dpkg').length, 0)
    assert.equal(trailsBelow(trails, '/etc/ssh/a').length, 0)
  })
})
