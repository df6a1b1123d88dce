/** Clients of others: what they find, and whether every byte comes and goes. */
import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { MiB } from '#shared/units.ts'
import { runProgram } from '#test/support/child-run.ts'
import { startNbdServer } from '#test/support/nbd-server-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const SIZE_BYTES = 16 * MiB

/** Data, then a hole, then data; a third of the blocks is cold. */
async function startFilled(transmission: 'workers' | 'event-loop' = 'workers') {
  const fixture = await startNbdServer({ sizeBytes: SIZE_BYTES, server: { transmission } })
  randomFillSync(fixture.memory, 0, 6 * MiB)
  randomFillSync(fixture.memory, 10 * MiB, 6 * MiB)
  for (let block = 0; block < fixture.absent.length; block += 3) fixture.absent[block] = 1
  return fixture
}

it('nbdinfo finds the export and what it can do', async () => {
  await using fixture = await startFilled()
  const said = JSON.parse(await runProgram('nbdinfo', ['--json', '--no-content', fixture.uri]))
  assert.equal(said.structured, true)
  const [disk] = said.exports
  assert.equal(disk['export-size'], SIZE_BYTES)
  assert.deepEqual(disk.contexts, ['base:allocation'])
  const can = [
    'can_cache',
    'can_df',
    'can_flush',
    'can_fua',
    'can_multi_conn',
    'can_trim',
    'can_zero',
  ]
  assert.deepEqual(
    can.map((name) => disk[name]),
    can.map(() => true),
  )
  assert.equal(disk.is_read_only, false)
  assert.equal(disk.block_size_minimum, 512)
})

it('nbdinfo --list finds every export', async () => {
  await using fixture = await startNbdServer({
    exports: (disk) => [disk, { ...disk, name: 'second', readOnly: true }],
  })
  const uri = fixture.uri.replace('disk', '')
  const said = JSON.parse(await runProgram('nbdinfo', ['--list', '--json', '--no-content', uri]))
  const found = said.exports.map((each: Record<string, unknown>) => [
    each['export-name'],
    each['is_read_only'],
  ])
  assert.deepEqual(found, [
    ['disk', false],
    ['second', true],
  ])
})

it('nbdinfo --map finds the hole', async () => {
  await using fixture = await startFilled()
  const map = JSON.parse(await runProgram('nbdinfo', ['--map', '--json', fixture.uri]))
  const extents = map.map(({ offset, length, type }: Record<string, number>) => [
    offset,
    length,
    type,
  ])
  assert.deepEqual(extents, [
    [0, 6 * MiB, 0],
    [6 * MiB, 4 * MiB, 3],
    [10 * MiB, 6 * MiB, 0],
  ])
})

for (const transmission of ['workers', 'event-loop'] as const) {
  for (const connections of [1, 4]) {
    it(`nbdcopy copies both ways: ${transmission}, ${connections} connections`, async () => {
      await using fixture = await startFilled(transmission)
      await using folder = await createTemporaryFolder()
      const file = join(folder.path, 'image')
      const options = [`--connections=${connections}`, '--requests=16']
      for (const requestBytes of [4096, MiB]) {
        await runProgram('nbdcopy', [
          ...options,
          `--request-size=${requestBytes}`,
          fixture.uri,
          file,
        ])
        assert.ok((await readFile(file)).equals(fixture.memory))
      }
      const other = randomFillSync(Buffer.alloc(SIZE_BYTES))
      other.fill(0, 3 * MiB, 5 * MiB)
      await writeFile(file, other)
      await runProgram('nbdcopy', [...options, '--flush', file, fixture.uri])
      assert.ok(fixture.memory.equals(other))
    })
  }
}

it('qemu-img and qemu-io read and write', async () => {
  await using fixture = await startFilled()
  await using folder = await createTemporaryFolder()
  const file = join(folder.path, 'image')
  await writeFile(file, fixture.memory)
  await runProgram('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', fixture.uri, file])
  const commands = [
    'write -P 7 4k 1M',
    'write -f -P 8 12288 512',
    'write -z 2M 1M',
    'discard 3M 64k',
  ]
  const check = ['flush', 'read -P 8 12288 512', 'read -P 0 2M 1M', 'read -P 7 16k 64k']
  await runProgram('qemu-io', [
    '-f',
    'raw',
    ...[...commands, ...check].flatMap((command) => ['-c', command]),
    fixture.uri,
  ])
  assert.ok(fixture.memory.subarray(4096, 12288).every((byte) => byte === 7))
  assert.ok(fixture.memory.subarray(12288, 12800).every((byte) => byte === 8))
  await assert.rejects(
    runProgram('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', fixture.uri, file]),
  )
})

it('fio writes, and verifies what it wrote', async () => {
  await using fixture = await startFilled()
  await using folder = await createTemporaryFolder()
  const options = [
    '--name=verify',
    '--ioengine=nbd',
    `--uri=${fixture.uri}`,
    '--rw=randwrite',
    '--bsrange=512-64k',
    '--bs_unaligned=0',
    '--iodepth=16',
    '--size=8M',
    '--verify=crc32c',
    '--do_verify=1',
    '--verify_fatal=1',
    '--output-format=json',
  ]
  const said = await runProgram('fio', options, { cwd: folder.path })
  const [job] = JSON.parse(said.slice(said.indexOf('{'))).jobs
  assert.equal(job.error, 0)
  assert.ok(job.write.io_bytes >= 8 * MiB && job.read.io_bytes >= 8 * MiB)
})

it('clients cannot write to a read-only export', async () => {
  await using fixture = await startNbdServer({ readOnly: true })
  const info = JSON.parse(await runProgram('nbdinfo', ['--json', '--no-content', fixture.uri]))
  assert.equal(info.exports[0].is_read_only, true)
  await assert.rejects(runProgram('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', fixture.uri]))
})
