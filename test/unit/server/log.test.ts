import assert from 'node:assert/strict'
import { it } from 'node:test'
import { boundedLog, createLog, type LogOptions } from '#server/log.ts'

function linesOf(options: LogOptions, act: (log: ReturnType<typeof createLog>) => void): string[] {
  const lines: string[] = []
  act(createLog(options, (line) => lines.push(line)))
  return lines
}

it('createLog() writes a line for a person: time, level, text, fields', () => {
  const [line = ''] = linesOf({ json: false, level: 'info' }, (log) => {
    log.child({ client: 'client-1' }).warn({ bytes: 12, text: 'two words' }, 'slow')
  })
  assert.match(
    line,
    /^\d{4}-\d\d-\d\dT[\d:.]+Z warn {2}slow client=client-1 bytes=12 text="two words"\n$/,
  )
})

it('createLog() shows control characters of peers and does not obey them', () => {
  const [line = ''] = linesOf({ json: false, level: 'info' }, (log) => {
    log.info({ vdisk: '\u001b[2J', name: '\u009b2J' }, 'cannot open "\u001b[2J"')
  })
  assert.match(line, /cannot open "\\x1b\[2J" vdisk="\\u001b\[2J" name="\\x9b2J"\n$/)
})

it('createLog() keeps the stack of an error in the log', () => {
  const [line = ''] = linesOf({ json: false, level: 'info' }, (log) => {
    log.error({ err: new Error('broken') }, 'failed')
  })
  assert.match(line, /error failed err=Error: broken\n\s+at /)
})

it('createLog() writes JSON when asked, and nothing below its level', () => {
  const lines = linesOf({ json: true, level: 'warn' }, (log) => {
    log.info('quiet')
    log.warn({ port: 1 }, 'loud')
  })
  assert.deepEqual(
    lines.map((line) => ({ ...(JSON.parse(line) as object), time: 0 })),
    [{ level: 40, time: 0, port: 1, msg: 'loud' }],
  )
})

it('boundedLog() leaves out what is too much, says how much that was, and no error', () => {
  let nowMs = 0
  const lines = linesOf({ json: true, level: 'info' }, (log) => {
    const bounded = boundedLog(log, { linesMax: 2, windowMs: 1000 }, () => nowMs)
    for (let count = 1; count <= 5; count += 1) bounded.info({ count }, 'asked')
    bounded.error('failed')
    nowMs = 1000
    bounded.warn('again')
  })
  const texts = lines.map(
    (line) => JSON.parse(line) as { readonly msg: string; readonly lines?: number },
  )
  assert.deepEqual(
    texts.map(({ msg }) => msg),
    ['asked', 'asked', 'failed', 'lines were left out of the log', 'again'],
  )
  assert.equal(texts[3]?.lines, 3)
})
