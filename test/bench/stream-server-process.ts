/**
 * The product's stream server for the bench: chunks by content on files, sessions, websockets, TLS. What it
 * stores is compressed where that pays, as an import does.
 *
 * usage: stream-server-process.ts IMAGE FOLDER [MAC]; writes {"port","pin"} on a line when it listens. With a MAC
 * only that client gets the vDisk, and all others wait to be approved.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createCore } from '#server/core.ts'
import { createAgentServer } from '#server/http-servers.ts'
import { silentLog } from '#server/log.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { StreamServer } from '#server/stream/stream-server.ts'
import { ensureServerKey } from '#server/tls/server-key.ts'
import { versionSigner } from '#server/tls/version-signer.ts'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'
import { MemoryTraceFiles } from '#test/support/memory-trace-files.ts'
import { say } from './report.ts'

/** What the clients of the bench open. */
export const BENCH_VDISK = 'bench'

if (import.meta.main) await serve()

async function serve(): Promise<void> {
  const [imagePath, folder, mac] = process.argv.slice(2)
  invariant(imagePath && folder, 'IMAGE FOLDER')
  const key = await ensureServerKey(folder)
  const chunkStore = await ContentStore.open(join(folder, 'store'), { sign: versionSigner(key) })
  const core = createCore({
    store: new MemoryStateStore(),
    chunkStore,
    traceFiles: new MemoryTraceFiles(),
    bootFiles: { listKernels: async () => [], removeKernel: async () => undefined },
    writesFolder: '/dev/null/writes',
    writeQuotaBytes: 0,
    unknownClients: mac === undefined ? { kind: 'vdisk', vdisk: BENCH_VDISK } : { kind: 'approve' },
    hostnamePattern: 'client-{n}',
    now: Date.now,
    log: silentLog(),
  })
  const writer = await chunkStore.createVersion()
  const image = createReadStream(imagePath, { highWaterMark: MiB })
  for await (const part of image) await writer.append(part as Uint8Array)
  await core.catalog.register({
    name: BENCH_VDISK,
    title: BENCH_VDISK,
    committed: await writer.commit(),
    root: { partition: 0, fsType: 'ext4', options: '' },
    osName: 'none',
    access: 'anyone',
  })
  if (mac !== undefined) {
    const { id } = await core.registry.identify({ macs: [mac] }, '127.0.0.1')
    await core.registry.assign(id, [BENCH_VDISK], { only: true })
    await core.registry.approve(id)
  }
  const stream = new StreamServer({
    ...core,
    settings: { serverName: 'bench', menuSeconds: 0, enrolSecret: Buffer.alloc(32) },
    now: Date.now,
    log: silentLog(),
  })
  const server = createAgentServer(key).on('upgrade', stream.upgrade).listen(0, '127.0.0.1')
  await once(server, 'listening')
  say(JSON.stringify({ port: (server.address() as AddressInfo).port, pin: key.pin }))
}
