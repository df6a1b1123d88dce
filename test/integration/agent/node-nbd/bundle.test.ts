/** The package bundled into CommonJS files in one folder, as the agent is. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { it } from 'node:test'
import { build } from 'esbuild'
import { NbdClient } from '#test/support/nbd-client.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

function sourceOf(path: string): string {
  return new URL(`../../../../${path}`, import.meta.url).pathname
}

it('serveDescriptor runs from CommonJS bundles when it is told where its workers are', async () => {
  await using folder = await createTemporaryFolder()
  await build({
    entryPoints: {
      main: sourceOf('test/support/nbd-descriptor-process.ts'),
      transmission: sourceOf('agent/node-nbd/transmission-worker.ts'),
      reply: sourceOf('agent/node-nbd/reply-worker.ts'),
      hot: sourceOf('test/support/nbd-memory-device.ts'),
    },
    outdir: folder.path,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    logOverride: { 'empty-import-meta': 'silent' },
  })
  const [main = '', ...workers] = ['main', 'transmission', 'reply', 'hot'].map((name) =>
    join(folder.path, `${name}.cjs`),
  )
  const child = spawn(process.execPath, [main, ...workers], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  })
  assert.ok(child.stdout)
  const said = text(child.stdout)
  const client = new NbdClient(child.stdio[3] as Duplex)
  const [hit, miss] = await Promise.all([client.read(0, 4096), client.read(4096, 4096)])
  assert.deepEqual([hit.errno, miss.errno], [0, 0])
  assert.deepEqual([hit.data[1], miss.data[1]], [7, 8])
  client.disconnect()
  if (child.exitCode === null) await once(child, 'exit')
  assert.equal(JSON.parse(await said).end, 'disconnect')
})
