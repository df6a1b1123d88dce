/** A volume group of LVM as far as an import needs it: where the bytes of each logical volume lie. Pure. */
import { type LvmSection, type LvmValue, sectionAt, sectionsOf } from './lvm-text.ts'

export interface VolumeGroup {
  readonly name: string
  /** As LVM prints it, with dashes. */
  readonly uuid: string
  /** Grows with every change; of several copies the one with the highest counts. */
  readonly sequence: number
  readonly volumes: readonly GroupVolume[]
}

export interface GroupVolume {
  readonly name: string
  readonly uuid: string
  /** In the order of the volume's bytes, neighbors joined; empty when `obstacle` says why. */
  readonly runs: readonly VolumeRun[]
  readonly obstacle?: string
}

/** A run of a volume's sectors of 512 bytes that lie in one piece. */
export interface VolumeRun {
  /** UUID of the physical volume, with dashes. */
  readonly physicalVolume: string
  /** From the beginning of the physical volume. */
  readonly startSector: number
  readonly sectors: number
}

interface PhysicalVolume {
  readonly uuid: string
  readonly firstExtentSector: number
}

/** The kernel's own maximum of a device's sectors, far below what a number cannot count. */
const SECTORS_MAX = 2 ** 50

/** Returns undefined when it is no description of a volume group. */
export function readVolumeGroup(text: LvmSection): VolumeGroup | undefined {
  const [named] = sectionsOf(text).filter(([, section]) => 'seqno' in section)
  if (named === undefined) return undefined
  const [name, group] = named
  const [uuid, sequence, extentSectors] = [group['id'], group['seqno'], group['extent_size']]
  if (typeof uuid !== 'string' || !isCount(sequence) || !isCount(extentSectors)) return undefined
  const physicalVolumes = readPhysicalVolumes(sectionAt(group, 'physical_volumes'))
  const volumes = sectionsOf(sectionAt(group, 'logical_volumes')).flatMap(([volume, section]) =>
    isVisible(section) ? [readVolume(volume, section, extentSectors, physicalVolumes)] : [],
  )
  return { name, uuid, sequence, volumes }
}

/** The device mapper's name: a dash in a name is doubled, one parts group and volume. */
export function mapperName(group: string, volume: string): string {
  return [group, volume].map((name) => name.replaceAll('-', '--')).join('-')
}

/** The device mapper's UUID, by which LVM knows that a volume is active. */
export function mapperUuid(group: string, volume: string): string {
  return `LVM-${group.replaceAll('-', '')}${volume.replaceAll('-', '')}`
}

function readPhysicalVolumes(section: LvmSection): Map<string, PhysicalVolume> {
  const all = sectionsOf(section).flatMap(([name, { id, pe_start: first }]) =>
    typeof id === 'string' && isCount(first)
      ? [[name, { uuid: id, firstExtentSector: first }] as const]
      : [],
  )
  return new Map(all)
}

/** Others are parts of volumes: of a mirror, a pool, a cache. */
function isVisible({ status }: LvmSection): boolean {
  return Array.isArray(status) && status.includes('VISIBLE')
}

function readVolume(
  name: string,
  section: LvmSection,
  extentSectors: number,
  physicalVolumes: ReadonlyMap<string, PhysicalVolume>,
): GroupVolume {
  const uuid = typeof section['id'] === 'string' ? section['id'] : ''
  const segments = sectionsOf(section)
    .filter(([segment]) => /^segment[0-9]+$/.test(segment))
    .map(([, segment]) => segment)
    .sort((a, b) => numberOf(a['start_extent']) - numberOf(b['start_extent']))
  const runs: VolumeRun[] = []
  let nextExtent = 0
  for (const segment of segments) {
    const run = readSegment(segment, extentSectors, physicalVolumes)
    if (typeof run === 'string') return { name, uuid, runs: [], obstacle: run }
    if (segment['start_extent'] !== nextExtent) return damaged(name, uuid)
    nextExtent += run.sectors / extentSectors
    appendRun(runs, run)
  }
  return runs.length === 0 ? damaged(name, uuid) : { name, uuid, runs }
}

function damaged(name: string, uuid: string): GroupVolume {
  return { name, uuid, runs: [], obstacle: 'damaged' }
}

/** Returns what it is when it is not linear. */
function readSegment(
  segment: LvmSection,
  extentSectors: number,
  physicalVolumes: ReadonlyMap<string, PhysicalVolume>,
): VolumeRun | string {
  const { type, stripes, stripe_count: stripeCount, extent_count: extents } = segment
  if (typeof type !== 'string') return 'damaged'
  if (type !== 'striped') return type
  if (stripeCount !== 1) return 'striped'
  const [physicalVolume, firstExtent] = list(stripes)
  const found = typeof physicalVolume === 'string' ? physicalVolumes.get(physicalVolume) : undefined
  if (found === undefined || !isCount(firstExtent) || !isCount(extents)) return 'damaged'
  const startSector = found.firstExtentSector + firstExtent * extentSectors
  const sectors = extents * extentSectors
  if (sectors === 0 || startSector + sectors > SECTORS_MAX) return 'damaged'
  return { physicalVolume: found.uuid, startSector, sectors }
}

function appendRun(runs: VolumeRun[], run: VolumeRun): void {
  const last = runs.at(-1)
  const isNext =
    last?.physicalVolume === run.physicalVolume &&
    last.startSector + last.sectors === run.startSector
  if (last !== undefined && isNext) {
    runs[runs.length - 1] = { ...last, sectors: last.sectors + run.sectors }
  } else {
    runs.push(run)
  }
}

function list(value: LvmValue | undefined): readonly LvmValue[] {
  return Array.isArray(value) ? value : []
}

function isCount(value: LvmValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function numberOf(value: LvmValue | undefined): number {
  return typeof value === 'number' ? value : 0
}
