import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type SourcesFile, sourcesOfRelease, transportSettings } from '#test/support/apt-sources.ts'

function oneLine(text: string): SourcesFile {
  return { style: 'one-line', text }
}

function deb822(text: string): SourcesFile {
  return { style: 'deb822', text }
}

describe('sourcesOfRelease()', () => {
  it('keeps the lines of the release, without source packages, backports and vendors', () => {
    const text = `# the mirror
deb http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://deb.debian.org/debian-security bookworm-security main
deb-src http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-backports main
deb https://packages.example.org/apt cloud-sdk-bookworm main
#deb http://deb.debian.org/debian bookworm-updates main
`
    assert.deepEqual(sourcesOfRelease([oneLine(text)], 'bookworm'), [
      oneLine(`deb http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://deb.debian.org/debian-security bookworm-security main
`),
    ])
  })

  it('keeps the suites of the release in stanzas, and keys that stand in them', () => {
    const text = `Types: deb deb-src
# frozen
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://deb.nodesource.com/node_20.x
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://security.ubuntu.com/ubuntu/
Suites: noble-security
Components: main
`
    assert.deepEqual(sourcesOfRelease([deb822(text)], 'noble'), [
      deb822(`Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
Components: main universe
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD
 -----END PGP PUBLIC KEY BLOCK-----
`),
    ])
  })

  it('keeps several stanzas apart', () => {
    const stanza = (suite: string) => `Types: deb\nURIs: http://m/\nSuites: ${suite}\n`
    const text = [stanza('bookworm'), stanza('trixie'), stanza('bookworm-security')].join('\n')
    assert.deepEqual(sourcesOfRelease([deb822(text)], 'bookworm'), [
      deb822(`${stanza('bookworm')}\n${stanza('bookworm-security')}`),
    ])
  })

  it('leaves files out that have nothing of the release', () => {
    assert.deepEqual(sourcesOfRelease([oneLine('deb http://m/ trixie main\n')], 'bookworm'), [])
  })
})

describe('transportSettings()', () => {
  it('takes what says how mirrors are reached', () => {
    const dump = `APT "";
Acquire "";
Acquire::http::Proxy "http://proxy:3128";
Acquire::https "";
Acquire::https::CAInfo "/etc/ssl/ca.pem";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Packages::MetaKey "main/Packages";
Acquire::Languages "none";
`
    assert.deepEqual(transportSettings(dump), [
      'Acquire::http::Proxy "http://proxy:3128";',
      'Acquire::https::CAInfo "/etc/ssl/ca.pem";',
      'Acquire::Check-Valid-Until "false";',
    ])
  })
})
