import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, describe, it } from 'node:test'
import { LevelStateStore } from '#server/state/level-state-store.ts'
import { testStateStore } from '#test/conformance/state-store-suite.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const STORE_MODULE = join(import.meta.dirname, '../../../server/state/level-state-store.ts')

describe('LevelStateStore', async () => {
  const folder = await createTemporaryFolder()
  after(() => folder[Symbol.asyncDispose]())
  let databases = 0
  const paths = new WeakMap<object, string>()
  const openAt = async (path: string) => {
    const store = await LevelStateStore.open(path)
    paths.set(store, path)
    return store
  }
  testStateStore({
    open: () => {
      databases += 1
      return openAt(join(folder.path, String(databases)))
    },
    reopen: async (store) => {
      await store.close()
      return await openAt(paths.get(store) ?? '')
    },
  })
})

it('LevelStateStore.open() says so when another process has the database', async () => {
  await using folder = await createTemporaryFolder()
  const holder = await LevelStateStore.open(folder.path)
  await assert.rejects(LevelStateStore.open(folder.path), {
    code: 'DATABASE_IN_USE',
    message: `Cannot open the database in "${folder.path}": another process has it open`,
  })
  await holder.close()
  await (await LevelStateStore.open(folder.path)).close()
})

it('LevelStateStore.open() says so when the database is damaged', async () => {
  await using folder = await createTemporaryFolder()
  await (await LevelStateStore.open(folder.path)).close()
  await writeFile(join(folder.path, 'CURRENT'), 'garbage\n')
  await assert.rejects(LevelStateStore.open(folder.path), { code: 'STATE_UNREADABLE' })
  await rm(folder.path, { recursive: true })
  await writeFile(folder.path, 'a file where the folder should be')
  await assert.rejects(LevelStateStore.open(folder.path), { code: 'STATE_UNREADABLE' })
})

it('LevelStateStore keeps every acknowledged transaction when its process is killed', async () => {
  await using folder = await createTemporaryFolder()
  // Writes without end, and tells each number once it is acknowledged.
  const program = `
    import { LevelStateStore } from ${JSON.stringify(STORE_MODULE)}
    const store = await LevelStateStore.open(${JSON.stringify(folder.path)})
    for (let n = 1; ; n += 1) {
      await store.transact([], [
        { type: 'put', key: 'last', value: n },
        { type: 'put', key: 'n/' + n, value: n },
      ])
      process.stdout.write(n + '\\n')
    }`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let acknowledged = 0
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged === 100) child.kill('SIGKILL')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  const store = await LevelStateStore.open(folder.path)
  const last = (await store.get('last'))?.value as number
  assert.ok(last >= acknowledged && acknowledged >= 100, `${last} of ${acknowledged}`)
  assert.equal((await store.range('n/')).length, last)
  await store.close()
})
