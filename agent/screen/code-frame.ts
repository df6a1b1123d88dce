/**
 * What a machine shows of its enrolment when it is asked to: its code, once more as a QR code for a phone, and the
 * keys to compare. Apart from the wait screen, since not every serial terminal shows it. Pure.
 */
import type { Frame, Row } from './frame.ts'
import { EMPTY_ROW, indent, masthead, RULE_ROW, TEXT_COLUMNS } from './masthead.ts'
import { qrRows } from './qr-code.ts'
import { cut, wrap } from './text-layout.ts'

const GAP_COLUMNS = 3

export interface EnrolCode {
  readonly code: string
  /** SHA-256 of the servers' keys that this machine trusts, base64url. */
  readonly serverPins: readonly string[]
}

export function codeFrame(
  enrol: EnrolCode,
  hostname: string | undefined,
  serverName: string | undefined,
): Frame {
  const qr = qrRows(enrol.code)
  const textColumns = TEXT_COLUMNS - (qr[0]?.length ?? 0) - GAP_COLUMNS
  const texts = wordsOf(enrol).flatMap((text) => (text === '' ? [''] : wrap(text, textColumns)))
  const rows = qr.map((squares, index): Row => {
    const text = cut(texts[index] ?? '', textColumns)
    return {
      text: indent(`${squares}${' '.repeat(GAP_COLUMNS)}${text}`).trimEnd(),
      emphasis: 'bold',
    }
  })
  return [
    ...masthead(hostname, serverName),
    EMPTY_ROW,
    ...rows,
    EMPTY_ROW,
    RULE_ROW,
    { text: indent('Any key: back') },
  ]
}

function wordsOf({ code, serverPins }: EnrolCode): string[] {
  return [
    `Code of this machine: ${code}`,
    '',
    'Compare it, and on the server:',
    `bootwire client approve ${code}`,
    '',
    'Key of the server ("bootwire key show"):',
    ...serverPins,
  ]
}
