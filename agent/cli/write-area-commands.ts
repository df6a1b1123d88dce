/** `bootwire-agent write-area …`: what a technician does with the write area on a client's disk. */
import { BootwireError } from '#shared/errors.ts'
import { formatBytes } from '#shared/units.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'
import { EXTENT_BYTES } from '../write-area/area-layout.ts'
import type { AreaCache } from '../write-area/directory.ts'
import { WriteArea } from '../write-area/write-area.ts'

/** Of a version's id, as everywhere. */
const ID_SHOWN = 12

/** Returns what to say. @throws {BootwireError} */
export async function showAreaCommand(path: string): Promise<string> {
  const area = await WriteArea.open(await FileDiskDevice.openToRead(path))
  try {
    const caches = area.caches.map(
      (it) =>
        `${it.vdisk}  ${it.versionId.slice(0, ID_SHOWN)}  ${formatBytes(it.data.length * EXTENT_BYTES)}  ${it.bootId === undefined ? 'kept' : 'dropped at the next boot'}`,
    )
    return [...caches, `${formatBytes(area.freeBytes)} free`].join('\n')
  } finally {
    await area.close()
  }
}

/** Gives what is kept over a version up. Returns what to say. @throws {BootwireError} */
export async function dropCommand(path: string, version: string): Promise<string> {
  const area = await WriteArea.open(await FileDiskDevice.open(path))
  try {
    const cache = only(area.caches, version)
    await area.drop(cache)
    return `What was written over ${cache.vdisk}, version ${cache.versionId.slice(0, ID_SHOWN)}, is gone.`
  } finally {
    await area.close()
  }
}

function only(caches: readonly AreaCache[], version: string): AreaCache {
  const found = caches.filter(({ versionId }) => versionId.startsWith(version))
  const [cache] = found
  if (cache !== undefined && found.length === 1) return cache
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot drop "${version}": ${found.length} write caches begin like this; "bootwire-agent write-area show" lists them`,
  )
}
