import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureServerKey } from '#server/tls/server-key.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

it('ensureServerKey() makes an EC key once, readable by its owner only', async () => {
  await using folder = await createTemporaryFolder()
  const made = await ensureServerKey(folder.path)
  assert.deepEqual(await ensureServerKey(folder.path), made)
  const { mode } = await stat(join(folder.path, 'key.pem'))
  assert.equal(mode & 0o777, 0o600)
  const { publicKey } = new X509Certificate(made.certPem)
  assert.deepEqual(publicKey.asymmetricKeyDetails, { namedCurve: 'prime256v1' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  assert.equal(made.pin, createHash('sha256').update(spki).digest('base64url'))
  assert.equal(made.pin.length, 43)
})

it('ensureServerKey() starts over when the first start was killed before the key', async () => {
  await using folder = await createTemporaryFolder()
  const before = await ensureServerKey(folder.path)
  await rm(join(folder.path, 'key.pem'))
  const after = await ensureServerKey(folder.path)
  assert.notEqual(after.pin, before.pin)
})

it('ensureServerKey() never replaces a key whose certificate is lost, damaged or of another', async () => {
  await using folder = await createTemporaryFolder()
  await using other = await createTemporaryFolder()
  await ensureServerKey(folder.path)
  const certPath = join(folder.path, 'cert.pem')
  const keyBefore = await readFile(join(folder.path, 'key.pem'), 'utf8')
  await writeFile(certPath, (await ensureServerKey(other.path)).certPem)
  await assert.rejects(ensureServerKey(folder.path), {
    code: 'STATE_UNREADABLE',
    message: /another key/,
  })
  await writeFile(certPath, 'garbage')
  await assert.rejects(ensureServerKey(folder.path), {
    code: 'STATE_UNREADABLE',
    message: /damaged/,
  })
  await rm(certPath)
  await assert.rejects(ensureServerKey(folder.path), {
    code: 'STATE_UNREADABLE',
    message: /missing/,
  })
  assert.equal(await readFile(join(folder.path, 'key.pem'), 'utf8'), keyBefore)
})
