/** The logical volumes on an image, found by what its physical volumes hold. */
import { invariant } from '#shared/invariant.ts'
import { VOLUME_SEGMENTS_MAX } from '#shared/wire/limits.ts'
import type { VolumeLocation } from '#shared/wire/messages.ts'
import type { Extent } from '../data-extents.ts'
import type { ImagePart } from '../image-part.ts'
import { openSource, type SourceImage } from '../source-image.ts'
import { type PhysicalVolume, readPhysicalVolume } from './physical-volume.ts'
import { type GroupVolume, mapperName, mapperUuid, type VolumeGroup } from './volume-group.ts'

/** What `blkid` calls a physical volume. */
export const PHYSICAL_VOLUME_TYPE = 'LVM2_member'

export interface ImageVolumes {
  readonly volumes: readonly ImagePart[]
  /** A sentence for each volume that cannot be read, or partition of LVM that says nothing. */
  readonly obstacles: readonly string[]
}

interface FoundPhysicalVolume extends PhysicalVolume {
  readonly part: ImagePart
}

const SECTOR_BYTES = 512

/** `parts`: those that hold physical volumes. */
export async function readImageVolumes(
  image: SourceImage,
  parts: readonly ImagePart[],
): Promise<ImageVolumes> {
  const found: FoundPhysicalVolume[] = []
  const obstacles: string[] = []
  for (const part of parts) {
    const physicalVolume = await readPart(image, part)
    if (physicalVolume !== undefined) found.push({ ...physicalVolume, part })
  }
  const groups = newestGroups(found)
  const known = new Set(groups.flatMap(({ volumes }) => volumes.flatMap(physicalVolumesOf)))
  for (const { uuid, group, part } of found) {
    if (group === undefined && !known.has(uuid)) {
      obstacles.push(`LVM on partition ${part.partition} says nothing of its volumes`)
    }
  }
  const volumes: ImagePart[] = []
  for (const group of groups) {
    for (const volume of group.volumes) {
      const placed = placeVolume(group, volume, found)
      if (typeof placed === 'string') obstacles.push(placed)
      else volumes.push(placed)
    }
  }
  return { volumes, obstacles }
}

async function readPart(image: SourceImage, part: ImagePart): Promise<PhysicalVolume | undefined> {
  await using file = await openSource(image)
  return await readPhysicalVolume(async (offsetBytes, lengthBytes) => {
    const length = Math.min(lengthBytes, part.sizeBytes - offsetBytes)
    if (length <= 0) return Buffer.alloc(0)
    const bytes = Buffer.alloc(length)
    const { bytesRead } = await file.read(bytes, 0, length, part.offsetBytes + offsetBytes)
    return bytes.subarray(0, bytesRead)
  })
}

/** Each physical volume may hold a copy; one that was away while others changed has an old one. */
function newestGroups(found: readonly FoundPhysicalVolume[]): VolumeGroup[] {
  const groups = new Map<string, VolumeGroup>()
  for (const { group } of found) {
    if (group === undefined) continue
    const other = groups.get(group.uuid)
    if (other === undefined || other.sequence < group.sequence) groups.set(group.uuid, group)
  }
  return [...groups.values()]
}

function physicalVolumesOf({ runs }: GroupVolume): string[] {
  return runs.map(({ physicalVolume }) => physicalVolume)
}

/** Returns why it cannot be read when it cannot. */
function placeVolume(
  group: VolumeGroup,
  volume: GroupVolume,
  found: readonly FoundPhysicalVolume[],
): ImagePart | string {
  const name = mapperName(group.name, volume.name)
  const refused = (why: string) => `volume ${name} cannot be read: ${why}`
  if (volume.obstacle !== undefined) {
    return refused(`it is ${volume.obstacle}, expected a linear one`)
  }
  const pieces: Extent[] = []
  const segments: VolumeLocation['segments'] = []
  for (const { physicalVolume, startSector, sectors } of volume.runs) {
    const part = found.find(({ uuid }) => uuid === physicalVolume)?.part
    if (part === undefined) return refused('a part of it is on another disk')
    const piece = { offsetBytes: startSector * SECTOR_BYTES, sizeBytes: sectors * SECTOR_BYTES }
    if (piece.offsetBytes + piece.sizeBytes > part.sizeBytes) {
      return refused('it goes beyond its partition')
    }
    pieces.push({ ...piece, offsetBytes: part.offsetBytes + piece.offsetBytes })
    segments.push({ partition: part.partition, startSector, sectors })
  }
  if (segments.length > VOLUME_SEGMENTS_MAX) {
    return refused(`it lies in ${segments.length} pieces, expected at most ${VOLUME_SEGMENTS_MAX}`)
  }
  const [piece, segment] = [pieces[0], segments[0]]
  invariant(piece !== undefined && segment !== undefined, 'a volume without obstacle has runs')
  return {
    partition: segment.partition,
    offsetBytes: piece.offsetBytes,
    sizeBytes: pieces.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    type: '',
    volume: {
      location: { name, uuid: mapperUuid(group.uuid, volume.uuid), segments },
      devices: [`/dev/${group.name}/${volume.name}`, `/dev/mapper/${name}`],
      pieces,
    },
  }
}
