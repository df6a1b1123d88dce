/** `bootwire-agent key …`: what a technician does with the key by which a machine proves who it is. */
import { keyFingerprint } from '#shared/identity/device-key.ts'
import { IDENTITY_OFFSET } from '../disk-cache/cache-layout.ts'
import { inspectCache } from '../disk-cache/inspect-cache.ts'
import { type IdentityPlace, IdentityStore } from '../identity/identity-store.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'

/** Makes a key where there is none. Returns what to say. @throws {BootwireError} and what the disk says */
export async function showKeyCommand(path: string): Promise<string> {
  return await withPlace(path, async (where) => describe(await IdentityStore.open(where)))
}

/** Returns what to say. @throws {BootwireError} and what the disk says */
export async function renewKeyCommand(path: string): Promise<string> {
  return await withPlace(path, async (where) => {
    const store = await IdentityStore.renew(where)
    return `${describe(store)}\nThe machine has another key now, which a server must be told to trust.`
  })
}

function describe({ key, serverPins }: IdentityStore): string {
  const servers = serverPins.map((pin) => `knows a server by ${pin}`)
  return [`key ${keyFingerprint(key.spki)}`, ...servers].join('\n')
}

async function withPlace<Result>(
  path: string,
  use: (where: IdentityPlace) => Promise<Result>,
): Promise<Result> {
  const isCache = await inspectCache(path).then(
    () => true,
    () => false,
  )
  const device = await FileDiskDevice.open(path)
  try {
    const offset = isCache ? IDENTITY_OFFSET : 0
    return await use({ device, offset, place: isCache ? 'cache' : 'partition' })
  } finally {
    await device.close()
  }
}
