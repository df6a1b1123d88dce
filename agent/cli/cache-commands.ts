/** `bootwire-agent cache …`: what a technician does with the cache on a client's disk. */
import { spawnSync } from 'node:child_process'
import { formatBytes } from '#shared/units.ts'
import { inspectCache } from '../disk-cache/inspect-cache.ts'
import type { PartitionUse } from '../local-disk/gpt.ts'
import { type PrepareOptions, prepareDevice } from './prepare-device.ts'

const WHAT: Readonly<Record<PartitionUse, string>> = {
  cache: 'a cache',
  writeArea: 'a write area',
  identity: 'a place for a key',
}

/** Returns what to say. @throws {BootwireError} */
export async function formatCommand(options: PrepareOptions): Promise<string> {
  const { partitions, changedDisk } = await prepareDevice(options)
  const lines = partitions.map(
    ({ path, use, sizeBytes }) =>
      `${path} is ${WHAT[use]} of ${formatBytes(sizeBytes)} now; the next boot uses it.`,
  )
  if (changedDisk !== undefined && !rereadTable(changedDisk)) {
    lines.push(
      `The kernel could not read the new partition table of ${changedDisk}; a restart does.`,
    )
  }
  return lines.join('\n')
}

/** Returns what to say. @throws {BootwireError} */
export async function showCommand(path: string): Promise<string> {
  const facts = await inspectCache(path)
  const rows = [
    ['device', facts.path],
    ['id', facts.id],
    ['used', `${formatBytes(facts.usedBytes)} of ${formatBytes(facts.capacityBytes)}`],
    ['objects', String(facts.objects)],
    ['may still write', formatBytes(facts.budgetLeftBytes)],
    ['written so far', formatBytes(facts.writtenBytes)],
  ]
  return rows.map(([name, value]) => `${`${name}:`.padEnd(17)}${value}`).join('\n')
}

/** Node has no ioctl; busybox and util-linux both have this. */
function rereadTable(disk: string): boolean {
  return spawnSync('blockdev', ['--rereadpt', disk], { stdio: 'ignore' }).status === 0
}
