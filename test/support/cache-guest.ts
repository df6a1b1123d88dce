/**
 * Makes caches of disks as a technician does, finds them as the agent does, and uses them. Runs in
 * User-mode Linux (uml-machine.ts): its kernel reads partition tables, and guards what is mounted.
 * The disk is `ubda`; every step says `cache-guest: …`, which the test waits for.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { LocalDisk } from '#agent/boot/local-disk.ts'
import { PartitionSearch } from '#agent/local-disk/partition-search.ts'
import { readAll, testObject } from './disk-cache-objects.ts'

const DEVICES = '/tmp/dev'
const DISK = `${DEVICES}/ubda`
const PARTITION = `${DEVICES}/ubda1`
const COMMAND = join(import.meta.dirname, '../../agent/cli/bootwire-agent.ts')
const LINUX_FILE_SYSTEM = '0FC63DAF-8483-4772-8E79-3D69D8477DE4'

function say(text: string): void {
  process.stdout.write(`cache-guest: ${text}\n`)
}

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  const [firstLine = ''] = `${stdout}${stderr}`.split('\n')
  return status === 0 ? `ok ${firstLine}` : `status ${status} ${firstLine}`
}

function cache(...args: string[]): string {
  return run(process.execPath, COMMAND, 'cache', ...args)
}

/** A disk that is all cache. */
function format(path: string, ...args: string[]): string {
  return cache('format', path, '--write-area', 'none', ...args)
}

async function find(): Promise<LocalDisk> {
  const found = Promise.withResolvers<string>()
  const disk = LocalDisk.find({
    search: new PartitionSearch({ deviceFolder: DEVICES }),
    hasServer: () => true,
    onProblem: (problem) => found.resolve(String(problem)),
    onFound: found.resolve,
  })
  say(`the agent: ${await found.promise}`)
  return disk
}

mkdirSync(DEVICES)
run('mount', '-t', 'devtmpfs', 'devtmpfs', DEVICES)
say(`empty disk: ${format(DISK)}`)
say(`table: ${run('sfdisk', '--verify', DISK)}`)
say(`again: ${format(DISK)}`)
const disk = await find()
const objects = Array.from({ length: 50 }, (_, index) => testObject(index, 20_000))
for (const object of objects) disk.cache.keep(object.hash, object)
say(`in use: ${format(PARTITION, '--force')}`)
await disk.cache.close()
say(`shown: ${cache('show', DISK)}`)
const again = await find()
const isFound = await readAll(again.cache, objects)
say(`kept: ${isFound.filter(Boolean).length} of ${objects.length}`)
await again.cache.close()
run('sfdisk', '--quiet', '--part-type', DISK, '1', LINUX_FILE_SYSTEM)
run('mkfs.ext4', '-qF', PARTITION)
say(`file system: ${format(PARTITION)}`)
mkdirSync('/tmp/mounted')
run('mount', PARTITION, '/tmp/mounted')
say(`mounted: ${format(PARTITION, '--force')}`)
run('umount', '/tmp/mounted')
say(`forced: ${format(PARTITION, '--force')}`)
say(`table: ${run('sfdisk', '--verify', DISK)}`)
await (await find()).cache.close()
say(`both: ${cache('format', DISK, '--force')}`)
say(`table: ${run('sfdisk', '--verify', DISK)}`)
const both = await find()
const found = await both.writeArea()
say(`write area: ${found?.path} ${found?.area.freeBytes}`)
await both.cache.close()
await found?.area.close()
const area = (...args: string[]) => run(process.execPath, COMMAND, 'write-area', ...args)
say(`shown: ${area('show', PARTITION)}`)
say(`made anew: ${area('format', PARTITION)}`)
