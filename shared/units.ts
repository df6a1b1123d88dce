export const KiB = 1024
export const MiB: number = 1024 * KiB
export const GiB: number = 1024 * MiB
export const TiB: number = 1024 * GiB

/** Formats a byte count for people: `17.7 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < KiB) return `${bytes} B`
  if (bytes < MiB) return `${(bytes / KiB).toFixed(1)} KiB`
  if (bytes < GiB) return `${(bytes / MiB).toFixed(1)} MiB`
  if (bytes < TiB) return `${(bytes / GiB).toFixed(2)} GiB`
  return `${(bytes / TiB).toFixed(2)} TiB`
}
