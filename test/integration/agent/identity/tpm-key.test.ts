/** The key in a TPM, with one in software. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { TpmKey } from '#agent/identity/tpm-key.ts'
import { isProof } from '#shared/identity/device-key.ts'
import { startSoftwareTpm } from '#test/support/software-tpm.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TEXT = Buffer.from('who this machine is')

const TIMEOUT = { timeout: 30_000 }

it('a key of a TPM signs, and is the same at each boot of that machine', TIMEOUT, async () => {
  await using folder = await createTemporaryFolder()
  let first: Uint8Array
  {
    await using started = await startSoftwareTpm(folder.path)
    const key = await TpmKey.of(started.tpm)
    first = key.spki
    const signatures = await Promise.all([key.sign(TEXT), key.sign(TEXT)])
    for (const signature of signatures) assert.ok(isProof(key.spki, signature, TEXT))
  }
  await using again = await startSoftwareTpm(folder.path)
  assert.deepEqual((await TpmKey.of(again.tpm)).spki, first)
  await using other = await createTemporaryFolder()
  await using stranger = await startSoftwareTpm(other.path)
  assert.notDeepEqual((await TpmKey.of(stranger.tpm)).spki, first)
})

it('a machine without a TPM has none', async () => {
  assert.equal(await TpmKey.open('/nowhere'), undefined)
})

it('a TPM that refuses says with which code', TIMEOUT, async () => {
  const refused = Buffer.from('80010000000a000009a2', 'hex')
  const tpm = { exchange: async () => refused, close: async () => undefined }
  await assert.rejects(TpmKey.of(tpm), /does not make a key: .* 0x9a2/)
  await assert.rejects(
    TpmKey.of({ ...tpm, exchange: async () => Buffer.alloc(3) }),
    /it answered nothing/,
  )
})
