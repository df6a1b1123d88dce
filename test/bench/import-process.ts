/**
 * Imports an image into a new store, as the server does it, but for what it looks up in the image and
 * takes out of it. Ours, so that it can be timed like the tools it is measured against.
 *
 * usage: import-process.ts IMAGE FOLDER; the last line is an ImportCost
 */
import { join } from 'node:path'
import { keepCompiledCode } from '#server/compile-cache.ts'
import { dataBytesOf, openImage, readSource } from '#server/import/source-image.ts'
import { isZero, Spool } from '#server/import/spool.ts'
import type { CommittedVersion } from '#server/store/chunk-store.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { ensureServerKey } from '#server/tls/server-key.ts'
import { versionSigner } from '#server/tls/version-signer.ts'
import { invariant } from '#shared/invariant.ts'
import { say } from './report.ts'

export interface ImportCost {
  /** Without the start of this process, which in a server is over. */
  readonly seconds: number
  readonly committed: CommittedVersion
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  keepCompiledCode()
  const [path, folder] = process.argv.slice(2)
  invariant(path && folder, 'IMAGE FOLDER')
  const sign = versionSigner(await ensureServerKey(folder))
  const store = await ContentStore.open(join(folder, 'store'), { sign })
  const { signal } = new AbortController()
  const beginMs = performance.now()
  await using opened = new AsyncDisposableStack()
  const spool = await Spool.open(join(folder, 'spool'))
  const image = await openImage({ path }, { spool, report: () => undefined, signal }, opened)
  const dataBytes = await dataBytesOf(image, signal)
  const writer = await store.createVersion()
  for await (const { bytes, lengthBytes } of readSource(image, signal)) {
    if (bytes === undefined || isZero(bytes)) await writer.appendZeros(lengthBytes)
    else await writer.append(bytes)
  }
  const committed = await writer.commit()
  const seconds = (performance.now() - beginMs) / 1000
  await store.close()
  invariant(committed.storedBytes > 0 && dataBytes > 0, 'something was stored')
  const cost: ImportCost = { seconds, committed }
  say(JSON.stringify(cost))
}
