import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { RIGHTS } from '#server/admin/rights.ts'
import type { AuditEntry } from '#server/administrators/audit-log.ts'
import { mayActAs, TOKEN_ROLES } from '#server/administrators/roles.ts'
import { remoteTarget } from '#server/cli/remote-target.ts'
import { statusOf } from '#test/support/admin-attacks.ts'
import { startRemoteSite } from '#test/support/remote-site.ts'
import { START_MS } from '#test/support/server-core.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 30_000 }

const FACTS = {
  macs: ['52:54:00:00:00:01'],
  uuid: '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
  architecture: 'x86_64',
}

describe('administration from afar', TIMEOUT, () => {
  it('every route has a right, and every right a route', async () => {
    await using remote = await startRemoteSite()
    const names = remote.routes.map(({ method, path }) => `${method} ${path}`)
    assert.deepEqual(names.toSorted(), Object.keys(RIGHTS).toSorted())
    for (const { method, path } of remote.routes) {
      const { action } = RIGHTS[`${method} ${path}`] ?? {}
      assert.ok(method === 'GET' || action !== undefined, `${path} changes something, unaudited`)
    }
  })

  it('answers nobody without a valid token, whatever is asked for', async () => {
    await using remote = await startRemoteSite()
    const token = await remote.tokenOf('administrator')
    const wrong = [
      undefined,
      token,
      `Basic ${token}`,
      `Bearer ${token}x`,
      `Bearer ${'a'.repeat(10_000)}`,
      'Bearer bwa_../../etc',
    ]
    for (const authorization of wrong) {
      assert.equal(await statusOf(remote.port, '/clients', authorization), 401)
    }
    assert.equal(await statusOf(remote.port, '/clients', `Bearer ${token}`), 200)
  })

  it('each role may do its own and no more: every route, tried with every role', async () => {
    await using remote = await startRemoteSite()
    for (const role of TOKEN_ROLES) {
      const client = remote.clientWith(await remote.tokenOf(role))
      for (const { method, path, answers } of remote.routes) {
        const needed = RIGHTS[`${method} ${path}`]?.role ?? 'owner'
        if (mayActAs(role, needed) || answers !== undefined) continue
        const real = path.replaceAll(/:\w+/g, 'nothing')
        await assert.rejects(
          client.ask(method, real),
          { code: 'PERMISSION_DENIED' },
          `${role} ${path}`,
        )
      }
    }
    const refused = (await remote.audit()).filter(({ outcome }) => outcome === 'PERMISSION_DENIED')
    assert.ok(refused.length > 10, 'who tries what is not theirs stands in the log')
  })

  it('who may nothing cannot fill the audit log', async () => {
    await using remote = await startRemoteSite()
    const client = remote.clientWith(await remote.tokenOf('viewer'))
    const body = { vdisks: ['x'.repeat(60)], padding: 'y'.repeat(50_000) }
    for (let tries = 0; tries < 60; tries += 1) {
      await assert.rejects(client.ask('POST', '/join', body), { code: 'PERMISSION_DENIED' })
    }
    const entries = await remote.audit()
    assert.equal(entries.length, 20)
    assert.ok(JSON.stringify(entries).length < 5000)
  })

  it('a request that is wrong leaves no secret in the audit log', async () => {
    await using remote = await startRemoteSite()
    const { hostname } = await remote.core.registry.identify(FACTS, '10.0.0.9')
    const client = remote.clientWith(await remote.tokenOf('operator'))
    const values = { A: { value: 'hush-hush', secret: true }, B: { value: 'hush-hush' } }
    await assert.rejects(client.ask('POST', `/clients/${hostname}/settings`, { values }))
    assert.equal(JSON.stringify(await remote.audit()).includes('hush-hush'), false)
  })

  it('routes that answer in parts look at the right first, too', async () => {
    await using remote = await startRemoteSite()
    const client = remote.clientWith(await remote.tokenOf('operator'))
    await assert.rejects(client.content('/vdisks/one/content'), { code: 'PERMISSION_DENIED' })
    await assert.rejects(
      client.stream('/store/gc', undefined, () => undefined),
      { code: 'PERMISSION_DENIED' },
    )
    const administrator = remote.clientWith(await remote.tokenOf('administrator'))
    const body = { path: '/etc/shadow', name: 'x' }
    await assert.rejects(
      administrator.importVDisk(body, () => undefined),
      { code: 'PERMISSION_DENIED' },
    )
  })

  it('a change is in the audit log with who, what, before and after', async () => {
    await using remote = await startRemoteSite()
    await remote.core.addVDisk('lab')
    const seen = await remote.core.registry.identify(FACTS, '10.0.0.9')
    const { hostname } = seen
    const client = remote.clientWith(await remote.tokenOf('operator', 'helpdesk'))
    await client.ask('POST', `/clients/${hostname}/assign`, { vdisks: ['lab'] })
    await assert.rejects(client.ask('POST', `/clients/${hostname}/assign`, { vdisks: ['none'] }))
    const [failed, done] = await remote.audit()
    assert.deepEqual(pick(done), {
      by: 'helpdesk',
      role: 'operator',
      address: '127.0.0.1',
      action: 'client assign',
      subject: hostname,
      request: { vdisks: ['lab'] },
      before: { assignments: [] },
      after: { assignments: ['lab'] },
      outcome: 'done',
    })
    assert.deepEqual([failed?.outcome, failed?.before], ['NOT_FOUND', undefined])
  })

  it('tokens are made from afar by administrators, are no one else to read, and end at once', async () => {
    await using remote = await startRemoteSite()
    const chief = remote.clientWith(await remote.tokenOf('administrator', 'chief'))
    const created = await chief.ask<{ token: string }>('POST', '/administrators', {
      name: 'new',
      role: 'viewer',
      seconds: 60,
    })
    const viewer = remote.clientWith(created.token)
    assert.deepEqual(await viewer.ask('GET', '/clients'), [])
    assert.equal(JSON.stringify(await remote.audit()).includes(created.token), false)
    assert.equal(remote.lines.join('').includes(created.token), false)
    remote.core.clock.nowMs = START_MS
    await chief.ask('DELETE', '/administrators/new')
    await assert.rejects(viewer.ask('GET', '/clients'), { code: 'UNAUTHENTICATED' })
  })

  it('guesses are limited by address, and do not lock out who has a token', async () => {
    const failures = { burst: 3, perSecond: 0, keysMax: 10 }
    await using remote = await startRemoteSite({ failures })
    const token = await remote.tokenOf('viewer')
    const statuses: number[] = []
    for (let guess = 0; guess < 6; guess += 1) {
      statuses.push(await statusOf(remote.port, '/clients', `Bearer guess-${guess}`))
    }
    assert.deepEqual(statuses, [401, 401, 401, 429, 429, 429])
    assert.equal(remote.lines.filter((line) => line.includes('no valid token')).length, 3)
    assert.equal(await statusOf(remote.port, '/clients', `Bearer ${token}`), 200)
  })

  it('one administrator may not ask without end', async () => {
    await using remote = await startRemoteSite({
      requests: { burst: 2, perSecond: 0, keysMax: 10 },
    })
    const client = remote.clientWith(await remote.tokenOf('viewer'))
    await client.ask('GET', '/clients')
    await client.ask('GET', '/clients')
    await assert.rejects(client.ask('GET', '/clients'), { code: 'LIMIT_EXCEEDED' })
  })

  it('a server with another key does not see the token', async () => {
    await using remote = await startRemoteSite()
    await using other = await startRemoteSite()
    const token = await remote.tokenOf('viewer')
    await assert.rejects(remote.clientWith(token, other.key.pin).ask('GET', '/clients'), {
      code: 'KEY_MISMATCH',
    })
    assert.equal(remote.lines.length, 0, 'not even a request came')
  })

  it('the command line says which of server, pin and token is wrong', async () => {
    await using folder = await createTemporaryFolder()
    const tokenFile = join(folder.path, 'token')
    await writeFile(tokenFile, `bwa_${'x'.repeat(43)}\n`)
    const pin = 'p'.repeat(43)
    assert.deepEqual(remoteTarget({ server: '[fd00::1]:8444', pin, tokenFile }).server, {
      host: 'fd00::1',
      port: 8444,
    })
    for (const server of ['host', 'host:0', 'host:99999', 'fd00::1:80', 'https://h:1']) {
      assert.throws(() => remoteTarget({ server, pin, tokenFile }), /--server/)
    }
    const server = 'host:8444'
    assert.throws(() => remoteTarget({ server, pin: 'short', tokenFile }), /--pin/)
    assert.throws(() => remoteTarget({ server, pin, tokenFile: undefined }), /--token-file/)
    await writeFile(tokenFile, 'no token')
    assert.throws(() => remoteTarget({ server, pin, tokenFile }), /"bootwire admin add"/)
  })
})

function pick(entry: AuditEntry | undefined): Omit<AuditEntry, 'at'> | undefined {
  if (entry === undefined) return undefined
  const { at, ...rest } = entry
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000)
  return rest
}
