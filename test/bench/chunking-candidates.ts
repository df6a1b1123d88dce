/** The ways of cutting that the bench compares. */
import { KiB } from '#shared/units.ts'
import { casyncChunks } from './chunking-casync.ts'
import { type Chunked, cutAsImport, cutImage } from './chunking-chunks.ts'
import { type Cut, fixedCut, gearCut, gridCut } from './chunking-cutters.ts'
import { BLOCK_BYTES, type DiskImage } from './chunking-image.ts'

export interface Candidate {
  readonly name: string
  /** One of those that ours is measured against. */
  readonly isPeer: boolean
  /** When it is tried with differences, too, to one chunk and to three. */
  readonly deltas: 'always' | 'full' | 'never'
  /** New chunks behind one another are compressed together up to this length. */
  readonly joinBytes?: number
  readonly cut: (image: DiskImage) => Promise<Chunked>
}

const GRID_MIN_BYTES: number = 8 * KiB

export const CANDIDATES: readonly Candidate[] = [
  peer('4 KiB dedup', cutter(fixedCut(4 * KiB))),
  peer('casync 16 KiB', casync(16 * KiB)),
  peer('casync 64 KiB', casync(64 * KiB)),
  { ...ours('4 KiB dedup, in runs', fixedCut(4 * KiB)), joinBytes: 64 * KiB },
  ours('fixed 64 KiB', fixedCut(64 * KiB)),
  ours('byte-wise 16 KiB', gearCut(16 * KiB)),
  ours('byte-wise 32 KiB', gearCut(32 * KiB)),
  ours('byte-wise 64 KiB', gearCut(64 * KiB)),
  ours('grid 75 KiB', gridCut({ minBytes: GRID_MIN_BYTES, oneIn: 25 })),
  ours('grid 35 KiB', gridCut({ minBytes: GRID_MIN_BYTES, oneIn: 8 }), 'full'),
  ours('grid 20 KiB', gridCut({ minBytes: GRID_MIN_BYTES, oneIn: 4 }), 'full'),
  ours('even grid 70 KiB', evenGridCut(64 * KiB, 48, 6)),
  { name: 'even grid 36 KiB', isPeer: false, deltas: 'always', cut: asImport },
  ours('even grid 24 KiB', evenGridCut(20 * KiB, 16, 2)),
]

/** The one that was chosen, by the code that an import runs. */
async function asImport(image: DiskImage): Promise<Chunked> {
  return await Promise.resolve(cutAsImport(image))
}

function ours(name: string, cut: Cut, deltas: Candidate['deltas'] = 'never'): Candidate {
  return { name, isPeer: false, deltas, cut: cutter(cut) }
}

function peer(name: string, cut: Candidate['cut']): Candidate {
  return { name, isPeer: true, deltas: 'never', cut }
}

/** Cuts are rare before a length and frequent behind it, as in FastCDC: few short chunks. */
function evenGridCut(untilBytes: number, rareOneIn: number, oneIn: number): Cut {
  const minBytes = Math.floor(untilBytes / 2 / BLOCK_BYTES) * BLOCK_BYTES
  return gridCut({ minBytes, oneIn, rarer: { untilBytes, oneIn: rareOneIn } })
}

function cutter(cut: Cut): Candidate['cut'] {
  return async (image) => await Promise.resolve(cutImage(image, cut))
}

/** Its CPU time is not ours to tell. */
function casync(meanBytes: number): Candidate['cut'] {
  return async (image) => {
    return { chunks: await casyncChunks(image, meanBytes), cpuSeconds: Number.NaN }
  }
}
