import assert from 'node:assert/strict'
import { it } from 'node:test'
import { defaultServeOptions, serveConfig } from '#server/config.ts'
import { adminSocketPath, defaultStateFolder } from '#server/state/state-folder.ts'

it('serveConfig() lets nobody in by default', () => {
  const config = serveConfig(defaultServeOptions())
  assert.deepEqual(config.unknownClients, { kind: 'approve' })
  assert.deepEqual([config.httpPort, config.tlsPort, config.menuSeconds], [8080, 8443, 10])
  assert.match(config.agentImagePath, /\.cache\/initramfs\/agent\.img$/)
})

it('serveConfig() names the option that is wrong', () => {
  const wrong = [
    [{ httpPort: 65_536 }, /--http-port 65536/],
    [{ httpPort: Number.NaN }, /--http-port NaN/],
    [{ tlsPort: -1 }, /--tls-port -1/],
    [{ httpPort: 8443 }, /port 8443 for both --http-port and --tls-port/],
    [{ menuSeconds: 1.5 }, /--menu-seconds 1\.5/],
    [{ kernelParameters: 'a || b' }, /kernel parameters "a \|\| b"/],
    [{ hostnamePattern: 'x' }, /--hostname-pattern "x"/],
    [{ unknownClients: 'yes' }, /--unknown-clients "yes"/],
  ] as const
  for (const [options, message] of wrong) {
    assert.throws(() => serveConfig({ ...defaultServeOptions(), ...options }), {
      code: 'INVALID_ARGUMENT',
      message,
    })
  }
})

it("defaultStateFolder() is systemd's folder when there is one, the first of several", () => {
  const before = process.env['STATE_DIRECTORY']
  try {
    process.env['STATE_DIRECTORY'] = '/var/lib/a:/var/lib/b'
    assert.equal(defaultStateFolder(), '/var/lib/a')
    process.env['STATE_DIRECTORY'] = ''
    assert.match(defaultStateFolder(), /\/bootwire$/)
  } finally {
    if (before === undefined) delete process.env['STATE_DIRECTORY']
    else process.env['STATE_DIRECTORY'] = before
  }
})

it('adminSocketPath() refuses a folder whose socket could not be opened', () => {
  assert.equal(adminSocketPath('/s'), '/s/admin.sock')
  assert.throws(() => adminSocketPath(`/${'x'.repeat(100)}`), { code: 'INVALID_ARGUMENT' })
})
