/** Fits text into the columns of a console. Pure; every line it returns is printable ASCII. */
import { toAscii } from './ascii.ts'

const CUT_MARK = '...'

/** Wraps at spaces, and within a word only where it is longer than a line. */
export function wrap(text: string, columns: number): string[] {
  return toAscii(text)
    .split('\n')
    .flatMap((paragraph) => wrapParagraph(paragraph, columns))
}

/** Wraps, and ends with a mark where lines are left out. */
export function wrapAtMost(text: string, columns: number, linesMax: number): string[] {
  const lines = wrap(text, columns)
  if (lines.length <= linesMax) return lines
  const shown = lines.slice(0, linesMax)
  const last = shown.pop() ?? ''
  return [...shown, `${last.slice(0, columns - CUT_MARK.length).trimEnd()}${CUT_MARK}`]
}

/** One line of exactly this many columns, cut or padded. */
export function fit(text: string, columns: number): string {
  return cut(text, columns).padEnd(columns)
}

/** One line of at most this many columns. */
export function cut(text: string, columns: number): string {
  const line = toAscii(text).replaceAll('\n', ' ')
  if (line.length <= columns) return line
  return columns <= CUT_MARK.length
    ? line.slice(0, columns)
    : `${line.slice(0, columns - CUT_MARK.length)}${CUT_MARK}`
}

function wrapParagraph(paragraph: string, columns: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of paragraph.split(' ').filter((word) => word !== '')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
    for (; line.length > columns; line = line.slice(columns)) lines.push(line.slice(0, columns))
  }
  return [...lines, line]
}
