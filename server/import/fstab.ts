/** What an image mounts beside its root, by its `/etc/fstab` (fstab(5)). Pure. */
import type { FileSystem } from './file-system.ts'

export interface FstabEntry {
  /** `UUID=…`, `LABEL=…`, `PARTUUID=…`, `/dev/…`. */
  readonly device: string
  /** Absolute, without an end slash; empty for the root. */
  readonly folder: string
  readonly options: string
}

/** Lines that say no absolute folder, or one that climbs, are left out. */
export function parseFstab(text: string): FstabEntry[] {
  return text.split('\n').flatMap((line) => {
    const [device = '', folder = '', , options = ''] = line
      .trim()
      .split(/[ \t]+/, 4)
      .map(unescape)
    const names = folder.split('/').slice(1)
    const isPlain = folder.startsWith('/') && names.every((name) => !['.', '..'].includes(name))
    if (device.startsWith('#') || !isPlain) return []
    return [
      {
        device,
        folder: names
          .filter(Boolean)
          .map((name) => `/${name}`)
          .join(''),
        options,
      },
    ]
  })
}

/** What every system mounts before its first process where it lies apart: the initramfs has to. */
export const USR_FOLDER = '/usr'

/** Returns undefined for what is not on the image, or is named as only its machine knows it (`/dev/sda2`). */
export function fileSystemNamed(
  device: string,
  fileSystems: readonly FileSystem[],
): FileSystem | undefined {
  const volume = fileSystems.find(({ part }) => part.volume?.devices.includes(device))
  if (volume !== undefined) return volume
  const [, tag, value] =
    /^(UUID|LABEL|PARTUUID)=["']?([^"']+)["']?$/.exec(device) ??
    /^\/dev\/disk\/by-(uuid|label|partuuid)\/(.+)$/.exec(device) ??
    []
  if (tag === undefined || value === undefined) return undefined
  return fileSystems.find((fileSystem) => {
    const { uuid, label, part } = fileSystem
    const names = { UUID: uuid, LABEL: label, PARTUUID: part.uuid }
    return names[tag.toUpperCase() as keyof typeof names]?.toLowerCase() === value.toLowerCase()
  })
}

/** Returns the mount option of a subvolume of btrfs, with nothing that would be a second option. */
export function subvolumeOption(options: string): string {
  return /(?:^|,)(subvol=[^,\s]+)/.exec(options)?.[1] ?? ''
}

function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
}
