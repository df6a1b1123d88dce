/** A part of an image that may hold a file system: a partition, a logical volume, or all of it. */
import type { VolumeLocation } from '#shared/wire/messages.ts'
import type { Extent } from './data-extents.ts'
import type { SourceImage } from './source-image.ts'

export interface ImagePart {
  /** Counts from 1; 0 is the whole image. Of a logical volume: where it begins. */
  readonly partition: number
  /** Where the first of its bytes lies in the image. */
  readonly offsetBytes: number
  readonly sizeBytes: number
  /** GPT type GUID in upper case, or MBR type in hex; empty for anything but a partition. */
  readonly type: string
  /** GPT's GUID of a partition; absent on MBR disks. */
  readonly uuid?: string
  readonly volume?: LogicalVolume
}

export interface LogicalVolume {
  readonly location: VolumeLocation
  /** Where a system finds it: `/dev/GROUP/VOLUME` first. */
  readonly devices: readonly string[]
  /** The pieces of the image it consists of, in their order. */
  readonly pieces: readonly Extent[]
}

/** The whole image, as the only part there is. */
export function wholeImage(image: SourceImage): ImagePart {
  return { partition: 0, offsetBytes: 0, sizeBytes: image.sizeBytes, type: '' }
}

/** How a person calls it; no two parts of an image have the same. */
export function nameOfPart({ partition, volume }: ImagePart): string {
  if (volume !== undefined) return `volume ${volume.location.name}`
  return partition === 0 ? 'the whole' : `partition ${partition}`
}
