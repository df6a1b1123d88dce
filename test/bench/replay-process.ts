/**
 * The machine that boots: replays a record through NBD. It does nothing before it reads the server's
 * address on stdin, so that its own start is not measured.
 *
 * usage: replay-process.ts RECORD up|all THINK_DIVISOR [IMAGE]; the last line is a ReplayReport
 *   up             until the system is up; or all of the record
 *   THINK_DIVISOR  Infinity for no thinking
 *   IMAGE          every byte is compared with it
 */
import { once } from 'node:events'
import { openSync, readFileSync, readSync } from 'node:fs'
import { invariant } from '#shared/invariant.ts'
import { NbdReader, type PieceSink } from './nbd-reader.ts'
import { parseRecord, untilUp } from './record-boot.ts'
import { type ReplayResult, replay } from './replay.ts'
import { plannedBytes, planReplay } from './replay-plan.ts'
import { say } from './report.ts'

export interface ReplayReport extends ReplayResult {
  /** Until the export was open, before the replay. */
  readonly connectMs: number
  readonly readBytes: number
  /** Over the socket of this process. */
  readonly socketBytes: number
  readonly verifiedBytes: number
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  const [recordPath, until, thinkDivisor, imagePath] = process.argv.slice(2)
  invariant(recordPath && until && thinkDivisor, 'RECORD up|all THINK_DIVISOR')
  const record = parseRecord(readFileSync(recordPath, 'utf8'))
  const accesses = until === 'all' ? record.accesses : untilUp(record)
  const plan = planReplay(accesses, Number(thinkDivisor))
  const comparison = imagePath === undefined ? undefined : compareWith(imagePath)
  say('ready')
  const [line] = (await once(process.stdin, 'data')) as [Buffer]
  const beginMs = performance.now()
  const reader = await NbdReader.connect(line.toString().trim(), comparison?.sink)
  const connectMs = performance.now() - beginMs
  const result = await replay(plan, (offset, size, done) => reader.read(offset, size, done))
  const report: ReplayReport = {
    ...result,
    connectMs,
    readBytes: plannedBytes(plan),
    socketBytes: reader.bytesReceived + reader.bytesSent,
    verifiedBytes: comparison?.verifiedBytes() ?? 0,
  }
  reader.close()
  say(JSON.stringify(report))
  process.stdin.destroy()
}

function compareWith(imagePath: string): { sink: PieceSink; verifiedBytes: () => number } {
  const file = openSync(imagePath, 'r')
  const expected = Buffer.alloc(0x4_0000)
  let verified = 0
  const sink: PieceSink = (at, piece) => {
    readSync(file, expected, 0, piece.length, at)
    const isSame = expected.compare(piece, 0, piece.length, 0, piece.length) === 0
    invariant(isSame, `the bytes at ${at} are those of the image`)
    verified += piece.length
  }
  return { sink, verifiedBytes: () => verified }
}
