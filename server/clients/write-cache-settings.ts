/** Where a client keeps what it writes: by its own settings, or else its vDisk's, or else as everybody. Pure. */
import type { ClientRecord, VDiskRecord } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'
import type { WriteCacheSettings } from '#shared/wire/messages.ts'

export const DEFAULT_WRITE_CACHE: WriteCacheSettings = {
  place: 'auto',
  isKept: false,
  limitBytes: 0,
}

type Settings = Partial<WriteCacheSettings> | undefined

export function writeCacheOf(
  client: Pick<ClientRecord, 'writeCache'> | undefined,
  vdisk: Pick<VDiskRecord, 'writeCache'> | undefined,
): WriteCacheSettings {
  return { ...DEFAULT_WRITE_CACHE, ...vdisk?.writeCache, ...client?.writeCache }
}

/**
 * What was set, changed by what is wished; `null` takes a setting back.
 * @throws {BootwireError} INVALID_ARGUMENT when nobody could keep anything there
 */
export function withWriteCache(before: Settings, wish: WriteCacheWish): WriteCacheSettingsChange {
  const merged = Object.entries({ ...before, ...wish }).filter(([, value]) => value !== null)
  const settings = Object.fromEntries(merged) as Partial<WriteCacheSettings>
  const { place, isKept } = settings
  if (isKept === true && (place === 'ram' || place === 'auto')) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot keep what is written with place "${place}": memory forgets it; expected --place disk or --place server`,
    )
  }
  return Object.keys(settings).length === 0 ? {} : { writeCache: settings }
}

/** Each is set, taken back (null), or left as it is. */
export type WriteCacheWish = {
  readonly [Key in keyof WriteCacheSettings]?: WriteCacheSettings[Key] | null | undefined
}

interface WriteCacheSettingsChange {
  readonly writeCache?: Partial<WriteCacheSettings>
}

/**
 * Whether these settings can be followed at all: what the client and what its vDisk says may not fit
 * together. @throws {BootwireError} INVALID_ARGUMENT
 */
export function assertKeepable({ place, isKept }: WriteCacheSettings): void {
  if (!isKept || place === 'disk' || place === 'server') return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    'Cannot keep what is written: the settings of the client and its vDisk come to "kept" without a place that survives; say --place disk or --place server, or --drop',
  )
}
