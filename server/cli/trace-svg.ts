/** A boot as an SVG picture, each chunk at its place and time. Pure. */
import type { TraceView } from '#server/admin/admin-api.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { formatBytes } from '#shared/units.ts'

const WIDTH = 960
const HEIGHT = 540
const MARGIN = 70
const TICKS = 5

export function traceSvg(view: TraceView): string {
  const { vdisk, number, chunks, sizeBytes } = view
  const lastMs = Math.max(1, ...chunks.map(({ atMs }) => atMs))
  const x = (atMs: number) => round(MARGIN + (atMs / lastMs) * (WIDTH - 2 * MARGIN))
  const y = (bytes: number) => round(MARGIN + (bytes / sizeBytes) * (HEIGHT - 2 * MARGIN))
  const marks = chunks.map(({ position, blocks, atMs }) => {
    const top = y(position * BLOCK_BYTES)
    const height = Math.max(1, round(y((position + blocks) * BLOCK_BYTES) - top))
    return `<rect x="${x(atMs)}" y="${top}" width="2" height="${height}"/>`
  })
  const ticks = Array.from({ length: TICKS + 1 }, (_, tick) => tick / TICKS)
  const seconds = ticks.map((at) =>
    label(x(at * lastMs), HEIGHT - MARGIN + 20, 'middle', `${((at * lastMs) / 1000).toFixed(1)} s`),
  )
  const places = ticks.map((at) =>
    label(MARGIN - 8, y(at * sizeBytes) + 4, 'end', formatBytes(Math.round(at * sizeBytes))),
  )
  const frame = `<rect x="${MARGIN}" y="${MARGIN}" width="${WIDTH - 2 * MARGIN}" height="${HEIGHT - 2 * MARGIN}" fill="none" stroke="#999"/>`
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${label(WIDTH / 2, MARGIN - 24, 'middle', `Boot of ${vdisk}@${number}: ${chunks.length} chunks, place on the vDisk over time`)}
${frame}
<g fill="#1a5fb4" fill-opacity="0.6">
${marks.join('\n')}
</g>
${[...seconds, ...places].join('\n')}
</svg>
`
}

/** Names of vDisks hold nothing that XML would read. */
function label(x: number, y: number, anchor: string, text: string): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${text}</text>`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
