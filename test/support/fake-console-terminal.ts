/**
 * A terminal in memory: 80 columns, 24 rows, and of ECMA-48 what the screens of the agent use. Throws
 * at anything else, and when a screen would make it scroll or wrap.
 */
import { invariant } from '#shared/invariant.ts'

const COLUMNS = 80
const ROWS = 24

interface Cell {
  readonly character: string
  readonly style: string
}

const BLANK: Cell = { character: ' ', style: '' }
const STYLES: Readonly<Record<string, string>> = { 0: '', 1: 'bold', 7: 'reverse' }

// oxlint-disable-next-line no-control-regex -- control sequences are what this is about
const PARTS = /\x1b\[(?<parameters>[0-9;?]*)(?<final>[A-Za-z])|(?<character>[ -~▀▄█\r\n])/gy

export class FakeConsoleTerminal {
  #cells: Cell[][] = emptyCells()
  #row = 0
  #column = 0
  #style = ''
  isCursorShown = true

  write(text: string): void {
    PARTS.lastIndex = 0
    for (let at = 0; at < text.length; at = PARTS.lastIndex) {
      const groups = PARTS.exec(text)?.groups
      invariant(groups !== undefined, `cannot show ${JSON.stringify(text.slice(at, at + 20))}`)
      if (groups['character'] !== undefined) this.#put(groups['character'])
      else this.#obey(groups['final'] ?? '', groups['parameters'] ?? '')
    }
  }

  get rows(): string[] {
    return this.#cells.map((row) => row.map(({ character }) => character).join(''))
  }

  /** Which cells of each row stand out: ranges of equal style, blanks in plain style left out. */
  get styles(): string[] {
    return this.#cells.map((row) => row.map(({ style }) => style.slice(0, 1) || '.').join(''))
  }

  #put(character: string): void {
    if (character === '\r') this.#column = 0
    else if (character === '\n') this.#row += 1
    else {
      const row = this.#cells[this.#row]
      invariant(row !== undefined && this.#column < COLUMNS, 'wrote beyond the edge')
      row[this.#column] = { character, style: this.#style }
      this.#column += 1
    }
    invariant(this.#row < ROWS, 'scrolled')
  }

  #obey(final: string, parameters: string): void {
    if (final === 'H') {
      const [row, column] = parameters.split(';').map(Number)
      this.#row = (row ?? 1) - (row === 0 ? 0 : 1)
      this.#column = (column ?? 1) - 1
    } else if (final === 'J' && parameters === '2') this.#cells = emptyCells()
    else if (final === 'K' && parameters === '') this.#cells[this.#row]?.fill(BLANK, this.#column)
    else if (final === 'm') this.#style = STYLES[parameters] ?? `unknown ${parameters}`
    else if (parameters === '?25') this.isCursorShown = final === 'h'
    else invariant(false, `cannot obey ESC [ ${parameters} ${final}`)
  }
}

function emptyCells(): Cell[][] {
  return Array.from({ length: ROWS }, () => Array.from({ length: COLUMNS }, () => BLANK))
}
