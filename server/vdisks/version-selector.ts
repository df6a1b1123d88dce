/** How people name a version: `debian@3`, by its number or the beginning of its id. Pure. */
import type { VersionRecord } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'

/** Shortest beginning of an id that names a version; shorter ones are more likely mistakes. */
const ID_PREFIX_LENGTH_MIN = 4

export interface VersionSelector {
  readonly vdisk: string
  /** Number or beginning of the id; absent when only the vDisk is named. */
  readonly version?: string
}

/** `debian@3` → vDisk debian, version 3. Names of vDisks hold no `@`. */
export function parseVersionSelector(text: string): VersionSelector {
  const at = text.indexOf('@')
  if (at < 0) return { vdisk: text }
  const [vdisk, version] = [text.slice(0, at), text.slice(at + 1)]
  if (vdisk !== '' && version !== '') return { vdisk, version }
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use "${text}": expected the name of a vDisk, or NAME@VERSION`,
  )
}

/**
 * Finds a version by its number or else by the beginning of its id.
 * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT when several ids begin like this
 */
export function selectVersion(
  vdisk: string,
  versions: readonly VersionRecord[],
  selector: string,
): VersionRecord {
  const text = selector.toLowerCase()
  const numbered = versions.find(({ number }) => String(number) === text)
  if (numbered !== undefined) return numbered
  const isPrefix = text.length >= ID_PREFIX_LENGTH_MIN
  const [first, ...others] = versions.filter((it) => isPrefix && it.versionId.startsWith(text))
  if (first === undefined) throw noVersion(vdisk, versions, selector)
  if (others.length === 0) return first
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot tell which version of vDisk "${vdisk}" "${selector}" is: ${others.length + 1} ids begin like this, expected one`,
  )
}

function noVersion(
  vdisk: string,
  versions: readonly VersionRecord[],
  selector: string,
): BootwireError {
  const numbers = versions.map(({ number }) => number).sort((a, b) => a - b)
  return new BootwireError(
    'NOT_FOUND',
    `Cannot find version "${selector}" of vDisk "${vdisk}": expected a number (${numbers.join(', ')}) or ${ID_PREFIX_LENGTH_MIN} or more digits of an id`,
  )
}
