/** A disk that becomes a vDisk: the agent's part in this process, a real server in another. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { cp, mkdir, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { zstdCompressSync } from 'node:zlib'
import { type CaptureProgress, captureDisk } from '#agent/capture/capture-disk.ts'
import type { CaptureView } from '#server/capture/captures.ts'
import { CAPTURE_PATH, HASH_HEADER, SEGMENT_BYTES } from '#shared/capture/capture-protocol.ts'
import { MiB } from '#shared/units.ts'
import { createBootableImage } from '#test/support/bootable-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { type ServerProcess, startServerProcess } from '#test/support/server-process.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

const DISK_BYTES = 96 * MiB
const KEPT_BYTES = 40 * MiB
const SECRET = 'a secret in a file that was deleted'

const FACTS = { macs: ['52:54:00:ca:00:01'], memoryBytes: MiB }

describe('capturing a disk', { timeout: 240_000 }, () => {
  let temporary: TemporaryFolder
  let server: ServerProcess
  let disk: string
  const running = new Set<AbortController>()
  /** Of the file on it that stays. */
  let keptHash: string

  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = await createTemporaryFolder()
    server = await startServerProcess(path('state'))
    disk = await makeDisk(temporary.path)
    keptHash = await hashInside(disk)
  })
  after(async () => {
    for (const stop of running) stop.abort()
    await server[Symbol.asyncDispose]()
    await temporary[Symbol.asyncDispose]()
  })

  /** Begins; `progress` is the last that was told, `told` all of it. */
  const capture = (image = disk) => {
    const told: CaptureProgress[] = []
    const stop = new AbortController()
    const end = captureDisk({
      path: image,
      servers: [{ host: '127.0.0.1', port: server.tlsPort }],
      pin: server.pin,
      facts: FACTS,
      onProgress: (progress) => void told.push(progress),
      signal: stop.signal,
      pauseMs: 50,
    })
    end.catch(() => undefined)
    running.add(stop)
    const until = async (what: string, isSo: (progress: CaptureProgress) => boolean) => {
      await eventually(what, () => Promise.resolve(told.some(isSo)), 60_000)
    }
    const code = async () => {
      await until('a code is shown', ({ code }) => code !== '')
      return told[0]?.code ?? ''
    }
    return { end, told, stop: () => stop.abort(), until, code }
  }
  const approve = async (code: string, name: string) => {
    const { status, stderr } = await server.run(
      'capture',
      'approve',
      code,
      '--name',
      name,
      '--kernel-optional',
    )
    assert.equal(status, 0, stderr)
  }
  const list = () => server.json<CaptureView[]>('capture', 'ls')
  const find = async (code: string) => (await list()).find((it) => it.code === code)
  const exported = async (name: string) => {
    const image = path(`${name}.img`)
    const { status, stderr } = await server.run('vdisk', 'export', name, image)
    assert.equal(status, 0, stderr)
    return image
  }
  const restart = async (meanwhile: () => Promise<unknown>) => {
    const ports = ['--http-port', String(server.httpPort), '--tls-port', String(server.tlsPort)]
    await server.stop('SIGKILL')
    await meanwhile()
    server = await startServerProcess(path('state'), ...ports)
  }

  it('takes nothing before an operator has approved, then all but what is free', async () => {
    const { end, told, code } = capture()
    const shown = await code()
    assert.match(shown, /^[A-Z]{4}-[A-Z]{4}$/)
    const waiting = await find(shown)
    assert.deepEqual(
      [waiting?.state, waiting?.code, waiting?.receivedBytes, waiting?.mac],
      ['waiting', shown, 0, FACTS.macs[0]],
    )
    await approve(shown, 'taken')
    assert.equal(await end, 'it is taken@1')
    const sent = told.at(-1)?.sentBytes ?? 0
    assert.ok(sent > KEPT_BYTES && sent < KEPT_BYTES + 4 * MiB, `${sent} bytes were sent`)
    const image = await exported('taken')
    await run('e2fsck', ['-fn', image])
    assert.equal(await hashInside(image), keptHash)
    assert.ok((await readFile(disk)).includes(SECRET), 'the disk has it still')
    assert.ok(!(await readFile(image)).includes(SECRET), 'what was deleted is not on the server')
    await eventually(
      'nothing is left of it',
      async () => (await readdir(path('state/captures'))).length === 0,
      5_000,
    )
  })

  it('goes on when the server was killed in the middle', async () => {
    const { end, told, until, code } = capture()
    await approve(await code(), 'interrupted')
    await until(
      'some is sent',
      ({ stage, sentBytes }) => stage === 'sending' && sentBytes > 8 * MiB,
    )
    await restart(async () => {
      await until('the machine waits', ({ note }) => note.includes('Cannot reach'))
    })
    assert.equal(await end, 'it is interrupted@1')
    assert.ok((told.at(-1)?.sentBytes ?? 0) < KEPT_BYTES + 8 * MiB, 'nothing is sent twice')
    assert.equal(await hashInside(await exported('interrupted')), keptHash)
  })

  it('begun anew sends only what the server lacks or has otherwise, after another approval', async () => {
    const changing = path('changing.img')
    await cp(disk, changing)
    const first = capture(changing)
    await approve(await first.code(), 'resumed')
    await first.until('some is sent', ({ sentBytes }) => sentBytes > 16 * MiB)
    first.stop()
    await assert.rejects(first.end)
    // The first megabyte is no part of the file system's blocks in use beyond the boot sector.
    const file = await open(changing, 'r+')
    await file.write(Buffer.from('another boot sector'), 0, 19, 0)
    await file.close()
    const second = capture(changing)
    const code = await second.code()
    assert.notEqual(code, await first.code())
    const again = await find(code)
    assert.deepEqual([again?.state, again?.receivedBytes], ['waiting', 0])
    const before = await find(await first.code())
    assert.ok((before?.receivedBytes ?? 0) > 16 * MiB, 'nobody takes it over without approval')
    await approve(code, 'resumed')
    assert.equal(await find(await first.code()), undefined)
    assert.match(await second.end, /^it is resumed@/)
    const sent = second.told.at(-1)?.sentBytes ?? 0
    assert.ok(sent > 0 && sent < KEPT_BYTES - 8 * MiB, `${sent} bytes were sent`)
    const image = await exported('resumed')
    assert.equal((await readFile(image)).toString('latin1', 0, 19), 'another boot sector')
    assert.equal(await hashInside(image), keptHash)
  })

  it('ends with what was decided: refused, or no system', async () => {
    const refused = capture()
    const { status } = await server.run('capture', 'rm', await refused.code())
    assert.equal(status, 0)
    await assert.rejects(refused.end, { code: 'CAPTURE_REFUSED', message: /refused/ })
    assert.deepEqual(await readdir(path('state/captures')), [])
    const empty = path('empty.img')
    await writeFile(empty, '')
    await truncate(empty, 6 * MiB)
    const useless = capture(empty)
    await approve(await useless.code(), 'useless')
    await assert.rejects(useless.end, {
      code: 'CAPTURE_REFUSED',
      message: /neither a partition table/,
    })
    const { id = '', state } = (await find(await useless.code())) ?? {}
    assert.equal(state, 'failed')
    assert.equal((await server.run('vdisk', 'show', 'useless')).status, 1)
    assert.equal((await server.run('capture', 'rm', id)).status, 0)
  })

  it('takes no device that is in use', async () => {
    const { stdout } = await run('losetup', ['--find', '--show', disk])
    const device = stdout.trim()
    const folder = path('mounted')
    await mkdir(folder)
    await run('mount', [device, folder])
    try {
      await assert.rejects(capture(device).end, { code: 'CAPTURE_IMPOSSIBLE', message: /uses it/ })
    } finally {
      await run('umount', [folder])
      await run('losetup', ['-d', device])
    }
    await assert.rejects(capture(path('none')).end, { code: 'CAPTURE_IMPOSSIBLE' })
  })

  it('refuses what is not a segment of it, whoever sends it', async () => {
    const ask = async (method: string, url: string, token: string, body: Buffer, hash = '') => {
      const asked = request({
        host: '127.0.0.1',
        port: server.tlsPort,
        rejectUnauthorized: false,
        method,
        path: `${CAPTURE_PATH}${url}`,
        headers: { authorization: `Bearer ${token}`, [HASH_HEADER]: hash },
      })
      const response = new Promise<IncomingMessage>((resolve, reject) => {
        asked.once('response', resolve).once('error', reject)
      })
      asked.end(body)
      const answer = await response
      return { status: answer.statusCode, text: String(await buffer(answer)) }
    }
    const wish = { facts: FACTS, disk: { name: 'sdx', sizeBytes: 6 * MiB } }
    const begun = await ask('POST', '', '', Buffer.from(JSON.stringify(wish)))
    const { id, token, code } = JSON.parse(begun.text) as Record<string, string>
    const bytes = randomBytes(SEGMENT_BYTES)
    const hash = createHash('sha256').update(bytes).digest('hex')
    const put = async (index: string, body: Buffer, digest = hash, by = token ?? '') =>
      (await ask('PUT', `/${id}/segments/${index}`, by, body, digest)).status
    const packed = zstdCompressSync(bytes)
    assert.equal(await put('0', packed), 409, 'not approved')
    await approve(code ?? '', 'hostile')
    assert.equal(await put('0', packed, hash, 'x'.repeat(32)), 403)
    assert.equal(await put('0', packed, '0'.repeat(64)), 400)
    assert.equal(await put('0', bytes), 400, 'not packed')
    assert.equal(
      await put('0', zstdCompressSync(Buffer.alloc(64 * MiB))),
      400,
      'far more than it says',
    )
    assert.equal(await put('1', packed), 400, 'the last one is shorter')
    for (const index of ['2', '-1', '0.5', 'x', '', '1/../..']) {
      assert.ok([400, 404].includes((await put(index, packed)) ?? 0), index)
    }
    assert.equal(
      (await ask('POST', `/${id}/finish`, token ?? '', Buffer.from(JSON.stringify({ hash }))))
        .status,
      409,
    )
    for (const body of ['', '[]', '{"disk":{"name":"a","sizeBytes":-1},"facts":{}}']) {
      assert.equal((await ask('POST', '', '', Buffer.from(body))).status, 400, body)
    }
    assert.equal(await put('0', packed), 200)
    assert.equal((await list()).find((it) => it.id === id)?.receivedBytes, SEGMENT_BYTES)
    assert.equal((await server.run('capture', 'rm', id ?? '')).status, 0)
    assert.equal(await put('0', packed), 403)
  })
})

/** An ext4 with a system, a file that stays, and blocks of one that was deleted. */
async function makeDisk(folder: string): Promise<string> {
  const image = await createBootableImage(folder, 'disk')
  await truncate(image, DISK_BYTES)
  await run('resize2fs', [image])
  const mounted = join(folder, 'mnt')
  await mkdir(mounted)
  await run('mount', ['-o', 'loop', image, mounted])
  try {
    await writeFile(join(mounted, 'kept'), randomBytes(KEPT_BYTES))
    await writeFile(join(mounted, 'deleted'), SECRET.repeat((8 * MiB) / SECRET.length))
    await run('sync', ['-f', mounted])
    await run('rm', [join(mounted, 'deleted')])
  } finally {
    await run('umount', [mounted])
  }
  return image
}

async function hashInside(image: string): Promise<string> {
  const { stdout } = await run('sh', [
    '-c',
    'debugfs -R "cat kept" "$0" 2>/dev/null | sha256sum',
    image,
  ])
  return stdout.slice(0, 64)
}
