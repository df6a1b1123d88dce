import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CaptureProgress } from '#agent/capture/capture-disk.ts'
import { showCaptureScreen } from '#agent/screen/capture-screen.ts'
import { type Frame, ROWS } from '#agent/screen/frame.ts'
import type { Key } from '#agent/screen/keys.ts'
import { BootwireError } from '#shared/errors.ts'
import { GiB, MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'

const DISKS = ['sda', 'sdb'].map((name) => ({ name, sizeBytes: 8 * GiB, sectorBytes: 512 }))

const PROGRESS: CaptureProgress = {
  stage: 'waiting',
  note: '',
  code: 'WDJB-MJHT',
  doneBytes: 0,
  totalBytes: 8 * GiB,
  sentBytes: 0,
}

/** A screen that keeps its last frame, and a person at it. */
function start(
  capture: Parameters<typeof showCaptureScreen>[1]['capture'],
  disks: typeof DISKS = DISKS,
) {
  let onKey: (key: Key) => boolean = () => false
  let last: Frame = []
  const draw = (frame: Frame) => void (last = frame)
  const host = {
    openOverlay: (handler: (key: Key) => boolean) => {
      onKey = handler
      return Promise.resolve({ draw, update: draw, [Symbol.asyncDispose]: () => Promise.resolve() })
    },
  }
  const about = () => ({ hostname: 'client-7', serverName: 'lab' })
  const left = showCaptureScreen(host, { about, disks: () => disks, capture })
  const press = (character: string) => onKey({ kind: 'character', character })
  const text = () => last.map((row) => row.text).join('\n')
  const shows = (words: RegExp) =>
    eventually(String(words), () => Promise.resolve(words.test(text())), 5_000)
  return { left, press, text, shows, rows: () => last.length }
}

describe('showCaptureScreen()', () => {
  it('asks for the disk, shows the code, how far it is, and what came of it', async () => {
    const end = Promise.withResolvers<string>()
    let tell: (progress: CaptureProgress) => void = () => undefined
    let asked = ''
    const screen = start((name, onProgress) => {
      asked = name
      tell = onProgress
      return end.promise
    })
    await screen.shows(/1 \/dev\/sda 8.00 GiB\n +2 \/dev\/sdb/)
    assert.ok(screen.rows() <= ROWS)
    assert.equal(screen.press('3'), false)
    assert.equal(screen.press('2'), true)
    await screen.shows(/\/dev\/sdb, 8.00 GiB/)
    assert.equal(asked, 'sdb')
    tell(PROGRESS)
    await screen.shows(/bootwire capture approve WDJB-MJHT --name NAME/)
    tell({ ...PROGRESS, stage: 'sending', doneBytes: 2 * GiB, sentBytes: 300 * MiB })
    await screen.shows(/25 %: 2.00 GiB of 8.00 GiB, 300.0 MiB sent/)
    end.resolve('it is pc-7@1')
    await screen.shows(/is on the server: it is pc-7@1/)
    assert.ok(screen.rows() <= ROWS)
    screen.press('c')
    await screen.left
  })

  it('says why it did not go, and what to do', async () => {
    const screen = start(() =>
      Promise.reject(new BootwireError('CAPTURE_IMPOSSIBLE', 'Cannot capture /dev/sda: in use')),
    )
    await screen.shows(/sda/)
    screen.press('1')
    await screen.shows(/was not captured\n +BW-E424 Cannot capture \/dev\/sda: in use[^]*unmount/)
    assert.ok(screen.rows() <= ROWS)
    screen.press('c')
    await screen.left
  })

  it('goes back at any time, and ends what was begun', async () => {
    const idle = start(() => Promise.reject(new Error('not asked')), [])
    await idle.shows(/no disk that could be sent/)
    idle.press('c')
    await idle.left
    let stopped = false
    const busy = start((_, __, signal) => {
      signal.addEventListener('abort', () => (stopped = true))
      return new Promise(() => undefined)
    })
    await busy.shows(/sda/)
    busy.press('1')
    await busy.shows(/C: stop/)
    busy.press('C')
    await busy.left
    assert.ok(stopped)
  })
})
