import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { LoggedInUsers } from '#agent/screen/logged-in-users.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

/** A record of utmp(5): type at 0, line at 8. */
function record(type: number, line: string): Buffer {
  const bytes = Buffer.alloc(384)
  bytes.writeInt16LE(type)
  bytes.write(line, 8)
  return bytes
}

const USER = 7
const DEAD = 8

async function createRoot(records: readonly Buffer[]) {
  const folder = await createTemporaryFolder()
  const path = (name: string) => join(folder.path, name)
  await mkdir(path('run'))
  await mkdir(path('dev/pts'), { recursive: true })
  await writeFile(path('run/utmp'), Buffer.concat(records))
  for (const name of ['dev/pts/0', 'dev/pts/1', 'dev/tty1', 'dev/ttyS0', 'secret']) {
    await writeFile(path(name), '')
  }
  const read = async (name: string) => await readFile(path(name), 'utf8')
  return { folder, path, read, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() }
}

describe('LoggedInUsers', () => {
  it('tells each terminal with somebody at it once, but consoles', async () => {
    await using root = await createRoot([
      record(USER, 'pts/0'),
      record(USER, 'pts/0'),
      record(DEAD, 'pts/1'),
      record(USER, 'ttyS0'),
      record(USER, 'tty1'),
    ])
    new LoggedInUsers(['/dev/ttyS0'], root.folder.path).tell('server lost')
    for (const name of ['dev/pts/0', 'dev/tty1']) {
      await eventually(name, async () => (await root.read(name)) !== '')
      assert.equal(await root.read(name), '\r\nbootwire: server lost\r\n')
    }
    assert.equal(await root.read('dev/pts/1'), '')
    assert.equal(await root.read('dev/ttyS0'), '')
  })

  it('writes to nothing that is not called like a terminal, and survives what is not there', async () => {
    await using root = await createRoot([
      record(USER, '../secret'),
      record(USER, 'pts/../../secret'),
      record(USER, 'pts/77'),
      record(USER, 'pts/1'),
      Buffer.alloc(100, 7),
    ])
    new LoggedInUsers([], root.folder.path).tell('hello')
    await eventually('the real one', async () => (await root.read('dev/pts/1')) !== '')
    assert.equal(await root.read('secret'), '')
    new LoggedInUsers([], root.path('nowhere')).tell('nobody')
  })
})
