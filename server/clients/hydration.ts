/** How a client fetches the rest of its vDisk in the background, and what it does when nobody said. */
import type { ClientRecord } from '#server/state/records.ts'
import type { Hydration } from '#shared/wire/messages.ts'

/** Only clients with a disk cache hydrate at all, in their idle time and behind everything else. */
export const DEFAULT_HYDRATION: Hydration = { mode: 'run', rateBytesPerSecond: 0 }

export function hydrationOf(client: ClientRecord | undefined): Hydration {
  return client?.hydration ?? DEFAULT_HYDRATION
}
