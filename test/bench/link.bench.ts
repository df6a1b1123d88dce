/**
 * npm run bench -- link: whether the links that the other benches measure over are what they say.
 *
 *   --json  one JSON object on the last line
 */
import { Link, type LinkShape, linkName, MBIT } from './link.ts'
import { type LinkMeasured, probeLink } from './link-probe.ts'
import { BANDWIDTHS, ROUND_TRIPS_MS } from './link-shapes.ts'
import { reportGoals, say } from './report.ts'

interface Row extends LinkMeasured {
  readonly link: LinkShape
}

const rows: Row[] = []
say('| link | round trip ms | p99 ms | Mb/s |\n|---|---|---|---|')
for (const roundTripMs of ROUND_TRIPS_MS) {
  for (const bitsPerSecond of BANDWIDTHS) {
    await using link = await Link.create({ roundTripMs, bitsPerSecond })
    const measured = await probeLink(link)
    rows.push({ link: link.shape, ...measured })
    const numbers = [
      measured.roundTripMs.toFixed(2),
      measured.roundTripP99Ms.toFixed(2),
      (measured.bitsPerSecond / MBIT).toFixed(1),
    ]
    say(`| ${linkName(link.shape)} | ${numbers.join(' | ')} |`)
  }
}
reportGoals('link', [], rows)
