import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type {
  ClientDetails,
  ImportResult,
  TraceView,
  VersionView,
} from '#server/admin/admin-api.ts'
import { streamPairs } from '#server/cli/client-stream.ts'
import { formatImported } from '#server/cli/import-command.ts'
import { formatCheck, formatGarbage } from '#server/cli/store-commands.ts'
import { formatTrace } from '#server/cli/trace-picture.ts'
import { traceSvg } from '#server/cli/trace-svg.ts'
import { formatPromotion } from '#server/cli/version-commands.ts'
import { GiB, KiB, MiB } from '#shared/units.ts'

const version = {
  vdisk: 'debian',
  number: 2,
  versionId: 'ab'.repeat(32),
  createdAtMs: 0,
  sizeBytes: 10 * GiB,
  storedBytes: GiB,
  sharedBytes: 900 * MiB,
  root: { partition: 2, fsType: 'ext4', options: '' },
  osName: 'Debian 12',
  isInProduction: false,
  sessionCount: 0,
} as VersionView

const production = { ...version, number: 1, versionId: 'cd'.repeat(32), isInProduction: true }

function imported(fields: Partial<ImportResult>): ImportResult {
  const vdisk = {
    name: 'debian',
    versions: [version, production],
  } as unknown as ImportResult['vdisk']
  return { vdisk, version, outcome: 'added', format: 'qcow2', warnings: [], ...fields }
}

describe('formatImported()', () => {
  it('says which version the next boots get, and how to change it', () => {
    const text = formatImported(imported({}), 62)
    assert.match(text, /^debian@2, a new version of vDisk debian, imported in 1 min 2 s\n/)
    assert.match(text, /size +10\.00 GiB \(from qcow2\)\n/)
    assert.match(text, /stored +1\.00 GiB, 900\.0 MiB of it were there already\n/)
    assert.match(
      text,
      /root +partition 2, ext4\n {2}kernel +none: runs on the default boot kernel\n/,
    )
    assert.match(
      text,
      /\nThe next boots get debian@1 still\. .*: bootwire vdisk promote debian 2\n$/,
    )
  })

  it('says so when nothing changed, or only what was found', () => {
    const same = formatImported(imported({ outcome: 'unchanged' }), 1)
    assert.match(same, /^This image is debian@2 already, imported 19\d\d-/)
    assert.match(same, /bootwire vdisk promote debian 2\n$/)
    const promoted = { ...version, isInProduction: true }
    const now = formatImported(imported({ outcome: 'updated', version: promoted }), 1)
    assert.match(now, /^debian@2 has the same bytes.*\n[^]*The next boots get debian@2\.\n$/)
  })
})

it('formatPromotion() tells what changed, or that nothing did', () => {
  assert.equal(
    formatPromotion({ version, before: production }),
    'The next boots get debian@2 instead of debian@1; running clients keep what they have\n',
  )
  assert.match(formatPromotion({ version }), /^The next boots get debian@2;/)
  assert.match(formatPromotion({ version, before: version }), /^Nothing changed/)
})

describe('formatCheck()', () => {
  const report = {
    versions: 2,
    chunks: 100,
    storedBytes: MiB,
    chunksRead: 0,
    damages: [],
    repairs: [],
    incomplete: [],
  }

  it('says that nothing is wrong', () => {
    const text = 'Checked 2 versions, 100 chunks (none read), 1.0 MiB\nNo damage found\n'
    assert.equal(formatCheck(report), text)
  })

  it('says what is damaged, in which versions, and what to do', () => {
    const damages = [{ text: 'chunk 7 of pack 3', versions: ['debian@1', 'debian@2'] }]
    const found = formatCheck({ ...report, chunksRead: 5, damages })
    assert.match(
      found,
      /5 read and verified.*\ndamaged: chunk 7 of pack 3\n {2}in debian@1, debian@2\n/,
    )
    assert.match(found, /1 damage found\. .*bootwire check --repair\n$/)
    const repairs = ['pack 3 has a new index']
    const mended = formatCheck({ ...report, damages, repairs })
    assert.match(mended, /repaired: pack 3 has a new index\n/)
    assert.match(mended, /1 damage found; every version is whole again\n$/)
    const lost = formatCheck({ ...report, damages, repairs, incomplete: ['debian@2'] })
    assert.match(lost, /1 damage found\. Import the images of debian@2 again/)
  })
})

it('formatGarbage() tells what was freed and what stays', () => {
  const none = { removedChunks: 0, removedBytes: 0, keptDeadBytes: 0 }
  assert.equal(formatGarbage(none), 'Nothing to free\n')
  const some = { removedChunks: 3, removedBytes: MiB, keptDeadBytes: KiB }
  assert.match(formatGarbage(some), /^Freed 1\.0 MiB of 3 chunks, 1\.0 KiB lie among/)
})

describe('streamPairs()', () => {
  const status = {
    objectsCorrupt: 0,
    prefetch: { hits: 990, late: 8, misses: 2, pushedBytes: 20 * MiB, unusedBytes: MiB },
    diskCache: {
      state: 'ready',
      usedBytes: GiB,
      capacityBytes: 4 * GiB,
      writeBudgetLeftBytes: 2 * GiB,
      problem: '',
    },
    hydration: { mode: 'run', localBytes: 999, versionBytes: 1000 },
    writeCacheBytes: 100 * MiB,
    writeCacheLimitBytes: 8 * GiB,
    writeCachePlaces: ['ram', 'disk'],
    writesWaiting: 0,
  }
  const pairs = (fields: object, hydration = { mode: 'run', rateBytesPerSecond: 0 }) => {
    const boots = [{ lastStatus: { ...status, ...fields } }]
    return Object.fromEntries(streamPairs({ hydration, boots } as unknown as ClientDetails))
  }

  it('tell how much is local, and what the cache is like', () => {
    const shown = pairs({})
    assert.equal(shown['local'], '99 % of the version (999 B of 1000 B), hydrating')
    assert.equal(
      shown['disk cache'],
      'ready, 1.00 GiB of 4.00 GiB used, 2.00 GiB may be written today',
    )
    assert.equal(shown['written'], '100.0 MiB of 8.00 GiB, in memory, on the local disk')
    assert.match(pairs({ writesWaiting: 3 })['written'] ?? '', /; 3 writes wait for room$/)
    assert.match(shown['prefetched'] ?? '', /^990 reads found it here, 8 on its way, 2 not asked/)
    assert.deepEqual([shown['corrupt'], shown['hydration']], [undefined, 'runs'])
  })

  it('are never 100 % before all of it is there', () => {
    const all = { mode: 'run', localBytes: 1000, versionBytes: 1000 }
    assert.match(pairs({ hydration: all })['local'] ?? '', /^99 %/)
    const complete = { ...all, mode: 'complete' }
    assert.match(pairs({ hydration: complete })['local'] ?? '', /^100 %.*runs without the server$/)
  })

  it('say what is wrong', () => {
    const diskCache = { ...status.diskCache, state: 'failed', problem: 'it is gone' }
    const shown = pairs({ diskCache, objectsCorrupt: 3 })
    assert.equal(shown['disk cache'], 'failed: it is gone')
    assert.equal(shown['corrupt'], '3 objects, asked for again')
  })

  it('tell what is set before the client has said anything', () => {
    const hydration = { mode: 'pause', rateBytesPerSecond: 5 * MiB }
    const details = { hydration, boots: [] } as unknown as ClientDetails
    assert.deepEqual(streamPairs(details), [['hydration', 'paused, at most 5.0 MiB/s']])
  })
})

describe('formatTrace()', () => {
  /** Reads the first half of the disk in the first second, in order, then its end. */
  const chunks = [
    ...Array.from({ length: 10 }, (_, index) => ({
      position: index * 12_800,
      blocks: 32,
      storedBytes: 1000,
      atMs: index * 100,
    })),
    { position: 262_000, blocks: 1, storedBytes: 500, atMs: 4000 },
  ]
  const view: TraceView = {
    vdisk: 'debian',
    number: 1,
    versionId: 'ab',
    sizeBytes: GiB,
    source: 'recorded',
    boots: [{ model: 'QEMU', count: 3 }],
    chunks,
  }
  const options = { columns: 50, rows: 8, ascii: true }

  it('draws places over time', () => {
    assert.equal(
      formatTrace(view, options),
      `Boot of debian@1
  source     recorded boots of this version
  boots      3 of QEMU
  boot list  11 chunks, 10.3 KiB as sent, 1.3 MiB of the vDisk

      0 B |#*
          |  ***
          |     **
          |       **
512.0 MiB |
          |
          |
          |                                      .
          +---------------------------------------
           attached                    4.0 s later
`,
    )
  })

  it('names few models, counts many, and no guess is a boot', () => {
    const boots = Array.from({ length: 5 }, (_, at) => ({ model: `PC ${at}`, count: 2 }))
    const textOf = (boots: TraceView['boots']) => formatTrace({ ...view, boots }, options)
    assert.match(textOf(boots.slice(0, 2)), /boots +2 of PC 0, 2 of PC 1\n/)
    assert.match(textOf(boots), /boots +10 of 5 models\n/)
    assert.match(textOf([{ model: '', count: 1 }]), /boots +-\n/)
  })

  it('draws an order where there are no times, and nothing where nothing is known', () => {
    const guess = { ...view, source: 'guessed' as const, boots: [] }
    const ordered = { ...guess, chunks: chunks.map((chunk) => ({ ...chunk, atMs: 0 })) }
    assert.match(formatTrace(ordered, options), /first +last in order\n$/)
    const none = { ...view, source: 'none' as const, boots: [], chunks: [] }
    assert.match(formatTrace(none, options), /nothing is known[^]*0 chunks/)
    assert.ok(!formatTrace(none, options).includes('|'))
  })

  it('keeps every line within the width', () => {
    for (const columns of [40, 80, 200]) {
      const lines = formatTrace(view, { ...options, columns, ascii: false })
        .split('\n')
        .slice(5)
      for (const line of lines) assert.ok(line.length <= columns, line)
    }
  })

  it('is SVG, too, with a mark for each chunk', () => {
    const marks = traceSvg(view).match(/<rect x="[\d.]+" y="[\d.]+" width="2"/g)
    assert.equal(marks?.length, chunks.length)
  })
})
