import assert from 'node:assert/strict'
import { it } from 'node:test'
import { expectedNames } from '#server/cli/completion.ts'
import { nameOfFile } from '#server/cli/import-command.ts'
import { formatProgress, ProgressLine } from '#server/cli/progress-line.ts'
import { formatDuration, formatPairs, formatTable } from '#server/cli/table.ts'
import { formatBoot, formatTimeline } from '#server/cli/timeline.ts'
import type { BootRecord } from '#server/state/records.ts'
import { MiB } from '#shared/units.ts'

it('formatTable() aligns columns and does not pad the last', () => {
  assert.equal(
    formatTable(
      ['A', 'LONG'],
      [
        ['xyz', '1'],
        ['', '22'],
      ],
    ),
    'A    LONG\nxyz  1\n     22\n',
  )
})

it('formatPairs() leaves out what has no value', () => {
  assert.equal(
    formatPairs([
      ['id', '1'],
      ['serial', undefined],
      ['name', 'x'],
    ]),
    '  id      1\n  name    x\n',
  )
})

it('tables and pairs show control characters of unknown machines and do not obey them', () => {
  const serial = '\u001b]0;owned\u0007\n'
  assert.equal(formatTable(['A', 'B'], [[serial, '']]).split('\n')[1], '\\x1b]0;owned\\x07\\x0a  ')
  assert.equal(formatPairs([['serial', serial]]), '  serial  \\x1b]0;owned\\x07\\x0a\n')
})

it('formatDuration() chooses units a person would', () => {
  const texts = [0.844, 9.99, 59.4, 60, 185, 7800, 273_600].map(formatDuration)
  assert.deepEqual(texts, [
    '0.84 s',
    '9.99 s',
    '59 s',
    '1 min 0 s',
    '3 min 5 s',
    '2 h 10 min',
    '3 d 4 h',
  ])
})

it('formatProgress() tells amount, rate and time left', () => {
  const progress = { stage: 'reading', doneBytes: 100 * MiB, totalBytes: 400 * MiB }
  assert.equal(
    formatProgress(progress, 10),
    'reading: 25 %, 100.0 MiB of 400.0 MiB, 10.0 MiB/s, 30 s left',
  )
  assert.equal(formatProgress(progress, 0.5), 'reading: 25 %, 100.0 MiB of 400.0 MiB')
  const piped = { ...progress, totalBytes: 0 }
  assert.equal(formatProgress(piped, 10), 'reading: 100.0 MiB, 10.0 MiB/s')
  assert.equal(formatProgress({ ...piped, doneBytes: 0 }, 10), 'reading')
})

it('ProgressLine writes over its line on a terminal; elsewhere a line per stage, and now and then', () => {
  for (const [interactive, expected] of [
    [
      true,
      [
        '\r\u001b[Ka: 0 %, 0 B of 4 B',
        '\r\u001b[Kb: 25 %, 1 B of 4 B',
        '\r\u001b[Kb: 75 %, 3 B of 4 B, 0 B/s, 10 s left',
        '\r\u001b[K',
      ],
    ],
    [false, ['a\n', 'b\n', 'b: 75 %, 3 B of 4 B, 0 B/s, 10 s left\n']],
  ] as const) {
    const written: string[] = []
    let nowMs = 0
    const terminal = {
      interactive,
      out: () => undefined,
      err: (text: string) => written.push(text),
    }
    const line = new ProgressLine(terminal, () => nowMs)
    line.update({ stage: 'a', doneBytes: 0, totalBytes: 4 })
    line.update({ stage: 'a', doneBytes: 1, totalBytes: 4 })
    line.update({ stage: 'b', doneBytes: 1, totalBytes: 4 })
    nowMs = 30_000
    line.update({ stage: 'b', doneBytes: 3, totalBytes: 4 })
    line.end()
    assert.deepEqual(written, expected)
  }
})

it('formatTimeline() counts seconds from the beginning of the boot', () => {
  const boot: BootRecord = {
    bootId: 'b',
    clientId: 'c',
    startedAtMs: 1000,
    phases: [
      { phase: 'ipxe', atMs: 1000 },
      { phase: 'agent', atMs: 5310 },
    ],
    wireBytes: 2048,
    end: 'poweroff',
    endedAtMs: 61_000,
    notices: [{ atMs: 1, level: 'warning', message: 'write cache 75 % full' }],
  }
  assert.equal(formatTimeline(boot), 'ipxe 0.00 s, agent 4.31 s')
  assert.match(formatBoot(boot), /no vDisk {2}poweroff after 1 min 0 s {2}2\.0 KiB\n {4}ipxe/)
  assert.match(formatBoot(boot), / {4}warning: write cache 75 % full\n$/)
})

it('nameOfFile() makes the name of a vDisk', () => {
  assert.equal(nameOfFile('/srv/Debian 12.7.img'), 'debian-12.7')
  assert.equal(nameOfFile('kiosk_May.RAW'), 'kiosk-may')
  assert.equal(nameOfFile('disk'), 'disk')
})

it('expectedNames() knows where clients, vDisks and versions stand', () => {
  const lines = [
    'client show x',
    'client hydrate x',
    'client assign x y',
    'client assign x y z',
    'vdisk show d',
    'vdisk rollback d',
    'vdisk rm d',
    'vdisk export d',
    'boots x',
  ]
  const kinds = lines.map((line) => expectedNames(['bootwire', ...line.split(' ')]))
  assert.deepEqual(kinds, [
    'client',
    'client',
    'vdisk',
    'vdisk',
    'vdisk',
    'vdisk',
    'vdisk or version',
    'vdisk or version',
    'client',
  ])
  const others = [
    'client',
    'client a',
    'vdisk import f',
    'vdisk export d f',
    'client rename x y',
    'serve x y',
    'boots x y',
  ]
  for (const line of others) {
    assert.equal(expectedNames(['bootwire', ...line.split(' ')]), undefined, line)
  }
})
