/**
 * A QR code of characters that are half a square each (U+2580 ff.): light squares are drawn, dark ones left
 * out, as on the dark ground of a console. Pure.
 */
import createQrCode from 'qrcode-generator'

/** A quarter of the squares may be unreadable: lines of the kernel run through a console. */
const ERROR_CORRECTION = 'Q'

/** The smallest that holds the text. */
const ANY_VERSION = 0

/** Squares of light around it. The standard wants 4 (ISO/IEC 18004 §9.1); readers do with 2, and the rows are few. */
const QUIET_ZONE = 2

const HALVES = { both: '█', upper: '▀', lower: '▄', none: ' ' }

/** `text` in digits, capital letters and ` $%*+-./:`. Returns rows of equal length. */
export function qrRows(text: string): string[] {
  const code = createQrCode(ANY_VERSION, ERROR_CORRECTION)
  code.addData(text, 'Alphanumeric')
  code.make()
  const inner = code.getModuleCount()
  const size = inner + 2 * QUIET_ZONE
  const isLight = (row: number, column: number) => {
    if (row >= size) return false
    const [y, x] = [row - QUIET_ZONE, column - QUIET_ZONE]
    const isInside = y >= 0 && y < inner && x >= 0 && x < inner
    return !isInside || !code.isDark(y, x)
  }
  return Array.from({ length: Math.ceil(size / 2) }, (_, half) =>
    Array.from({ length: size }, (_, column) =>
      halves(isLight(2 * half, column), isLight(2 * half + 1, column)),
    ).join(''),
  )
}

function halves(upper: boolean, lower: boolean): string {
  if (upper) return lower ? HALVES.both : HALVES.upper
  return lower ? HALVES.lower : HALVES.none
}
