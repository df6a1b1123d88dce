/**
 * A boot as a picture in the terminal: places on the vDisk from top to bottom, time from left to right,
 * and the darker the more is read there and then. Pure.
 */
import type { TraceView } from '#server/admin/admin-api.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { formatBytes } from '#shared/units.ts'
import { formatPairs } from './table.ts'

export interface PictureOptions {
  readonly columns: number
  readonly rows: number
  /** Only characters every terminal has. */
  readonly ascii: boolean
}

type TraceChunk = TraceView['chunks'][number]

/** From nothing to most. */
const SHADES = { unicode: ' ░▒▓█', ascii: ' .:*#' } as const
const FRAMES = {
  unicode: { side: '│', corner: '└', floor: '─' },
  ascii: { side: '|', corner: '+', floor: '-' },
} as const

/** A picture of fewer columns shows nothing. */
const COLUMNS_MIN = 20

/** More are counted: a line is to be read. */
const MODELS_NAMED_MAX = 4

const SOURCES: Readonly<Record<TraceView['source'], string>> = {
  recorded: 'recorded boots of this version',
  carried: 'boots of the version before, carried over',
  guessed: 'a guess by what is on the vDisk; the first boot brings the truth',
  none: 'nothing is known of its boots yet',
}

export function formatTrace(view: TraceView, options: PictureOptions): string {
  const { vdisk, number, chunks, boots, source } = view
  const storedBytes = sum(chunks.map((chunk) => chunk.storedBytes))
  const rawBytes = sum(chunks.map(({ blocks }) => blocks * BLOCK_BYTES))
  const pairs = formatPairs([
    ['source', SOURCES[source]],
    ['boots', bootsText(boots)],
    [
      'boot list',
      `${chunks.length} chunks, ${formatBytes(storedBytes)} as sent, ${formatBytes(rawBytes)} of the vDisk`,
    ],
  ])
  const picture = chunks.length === 0 ? '' : `\n${formatPicture(view, options)}`
  return `Boot of ${vdisk}@${number}\n${pairs}${picture}`
}

function bootsText(boots: TraceView['boots']): string {
  const known = boots.filter(({ model }) => model !== '')
  if (known.length === 0) return '-'
  if (known.length <= MODELS_NAMED_MAX) {
    return known.map(({ model, count }) => `${count} of ${model}`).join(', ')
  }
  return `${sum(known.map(({ count }) => count))} of ${known.length} models`
}

function formatPicture(view: TraceView, options: PictureOptions): string {
  const style = options.ascii ? 'ascii' : 'unicode'
  const frame = FRAMES[style]
  const labels = rowLabels(view.sizeBytes, options.rows)
  const labelWidth = Math.max(...labels.map((label) => label.length))
  const columns = Math.max(COLUMNS_MIN, options.columns - labelWidth - 2)
  const time = timeOf(view.chunks)
  const bytes = densities(view, { columns, rows: options.rows }, time)
  const most = Math.max(...bytes.flat())
  const lines = bytes.map((row, index) => {
    const label = (labels[index] ?? '').padStart(labelWidth)
    return `${label} ${frame.side}${row.map((it) => shade(it, most, SHADES[style])).join('')}`.trimEnd()
  })
  const floor = `${' '.repeat(labelWidth + 1)}${frame.corner}${frame.floor.repeat(columns)}`
  const ends = `${' '.repeat(labelWidth + 2)}${time.first}${time.last.padStart(columns - time.first.length)}`
  return `${[...lines, floor, ends].join('\n')}\n`
}

interface TimeAxis {
  /** Where a chunk stands from 0 to 1. */
  readonly place: (chunk: TraceChunk, index: number) => number
  readonly first: string
  readonly last: string
}

/** A guess has an order and no times. */
function timeOf(chunks: readonly TraceChunk[]): TimeAxis {
  const lastMs = Math.max(...chunks.map(({ atMs }) => atMs))
  if (lastMs === 0) {
    return { place: (_, index) => index / chunks.length, first: 'first', last: 'last in order' }
  }
  const last = `${(lastMs / 1000).toFixed(1)} s later`
  return { place: ({ atMs }) => atMs / lastMs, first: 'attached', last }
}

/** Bytes read in each cell, rows from the beginning of the vDisk. */
function densities(
  { chunks, sizeBytes }: TraceView,
  { columns, rows }: { readonly columns: number; readonly rows: number },
  { place }: TimeAxis,
): number[][] {
  const cells = Array.from({ length: rows }, () => Array.from({ length: columns }, () => 0))
  for (const [index, chunk] of chunks.entries()) {
    const at = (chunk.position * BLOCK_BYTES) / sizeBytes
    const row = cells[Math.min(rows - 1, Math.floor(at * rows))]
    const column = Math.min(columns - 1, Math.floor(place(chunk, index) * columns))
    if (row !== undefined) row[column] = (row[column] ?? 0) + chunk.blocks * BLOCK_BYTES
  }
  return cells
}

/** By the square root, so that little beside much is seen. */
function shade(bytes: number, most: number, shades: string): string {
  const darkness = Math.sqrt(bytes / most)
  return shades.charAt(Math.ceil(darkness * (shades.length - 1)))
}

/** Every fourth row says where it begins. */
function rowLabels(sizeBytes: number, rows: number): string[] {
  return Array.from({ length: rows }, (_, row) =>
    row % 4 === 0 ? formatBytes(Math.round((sizeBytes / rows) * row)) : '',
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
