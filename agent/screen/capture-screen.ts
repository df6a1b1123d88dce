/** Sends a disk of this machine to the server: which one, what the operator has to do, how far it is. */

import { describeError } from '#shared/errors.ts'
import { formatBytes } from '#shared/units.ts'
import type { CaptureProgress } from '../capture/capture-disk.ts'
import { describeProgress } from '../capture/describe-progress.ts'
import type { BlockDevice } from '../local-disk/block-devices.ts'
import type { Frame, Row } from './frame.ts'
import type { Key } from './keys.ts'
import { EMPTY_ROW, indent, masthead, RULE_ROW, TEXT_COLUMNS } from './masthead.ts'
import type { OverlayHost } from './technician-screen.ts'
import { wrapAtMost } from './text-layout.ts'

export interface CaptureScreenOptions {
  readonly about: () => {
    readonly hostname: string | undefined
    readonly serverName: string | undefined
  }
  readonly disks: () => readonly BlockDevice[]
  /** Returns what the server made of it. */
  readonly capture: (
    name: string,
    onProgress: (progress: CaptureProgress) => void,
    signal: AbortSignal,
  ) => Promise<string>
}

/** Keys 1 to 9; a machine with more is captured by the command. */
const DISKS_SHOWN_MAX = 9

/** Of an error, what happened and what to do. */
const TEXT_ROWS = 8

/** Returns when it is done and seen, or somebody goes back. What was sent stays on the server. */
export async function showCaptureScreen(
  host: OverlayHost,
  { about, disks, capture }: CaptureScreenOptions,
): Promise<void> {
  const leaving = new AbortController()
  const left = new Promise<void>((resolve) => {
    leaving.signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const offered = disks().slice(0, DISKS_SHOWN_MAX)
  const chosen = Promise.withResolvers<BlockDevice>()
  let isChosen = false
  const onKey = (key: Key): boolean => {
    const character = key.kind === 'character' ? key.character : ''
    if (key.kind === 'escape' || character.toLowerCase() === 'c') leaving.abort()
    const disk = isChosen ? undefined : offered[Number(character) - 1]
    if (disk !== undefined) {
      isChosen = true
      chosen.resolve(disk)
    }
    return disk !== undefined || leaving.signal.aborted
  }
  await using screen = await host.openOverlay(onKey)
  const draw = (texts: readonly string[], keys: string) => screen.draw(frame(about(), texts, keys))
  draw(diskTexts(offered), 'C: back')
  const disk = await Promise.race([chosen.promise, left])
  if (disk === undefined) return
  draw([`/dev/${disk.name}, ${formatBytes(disk.sizeBytes)}`], 'C: stop')
  const show = (progress: CaptureProgress) => {
    const texts = [`/dev/${disk.name}, ${formatBytes(disk.sizeBytes)}`, describeProgress(progress)]
    screen.update(frame(about(), texts, 'C: stop; begun again it goes on'))
  }
  const sent = capture(disk.name, show, leaving.signal).then(
    (note) => [`/dev/${disk.name} is on the server: ${note}`],
    (error: unknown) => [`/dev/${disk.name} was not captured`, describeError(error)],
  )
  const end = await Promise.race([sent, left])
  if (end === undefined) return
  draw(end, 'C: back')
  await left
}

function diskTexts(disks: readonly BlockDevice[]): string[] {
  if (disks.length === 0) return ['This machine has no disk that could be sent.']
  const rows = disks.map(
    ({ name, sizeBytes }, index) => `${index + 1}  /dev/${name}  ${formatBytes(sizeBytes)}`,
  )
  return ['Which disk is to become a vDisk? It is only read.', '', ...rows]
}

function frame(
  { hostname, serverName }: ReturnType<CaptureScreenOptions['about']>,
  texts: readonly string[],
  keys: string,
): Frame {
  const rows = texts.flatMap((text): Row[] =>
    text === ''
      ? [EMPTY_ROW]
      : text
          .split('\n')
          .flatMap((line) => wrapAtMost(line.trim(), TEXT_COLUMNS, TEXT_ROWS))
          .map((line) => ({ text: indent(line) })),
  )
  return [
    ...masthead(hostname, serverName),
    { text: indent('Send a disk of this machine to the server') },
    EMPTY_ROW,
    ...rows,
    ...Array<Row>(Math.max(0, TEXT_ROWS + DISKS_SHOWN_MAX - rows.length)).fill(EMPTY_ROW),
    RULE_ROW,
    { text: indent(keys) },
  ]
}
