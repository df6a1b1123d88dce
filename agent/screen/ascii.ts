/**
 * What all consoles can show: printable ASCII. Serial terminals agree on nothing else, and a control
 * character in a name could drive them.
 */

/** Letters that do not come apart into a base letter and its mark. */
const SPELLED_OUT: Readonly<Record<string, string>> = {
  ß: 'ss',
  ẞ: 'SS',
  æ: 'ae',
  Æ: 'AE',
  œ: 'oe',
  Œ: 'OE',
  ø: 'o',
  Ø: 'O',
  đ: 'd',
  Đ: 'D',
  ł: 'l',
  Ł: 'L',
  ı: 'i',
  '‘': "'",
  '’': "'",
  '“': '"',
  '”': '"',
  '„': '"',
  '–': '-',
  '—': '-',
  '×': 'x',
}

/** Returns the text in printable ASCII and line feeds; what has no likeness there is a `?`. */
export function toAscii(text: string): string {
  return text
    .replaceAll(/[^\n -~]/g, (character) => SPELLED_OUT[character] ?? character)
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .replaceAll(/\r\n?|\u2028|\u2029/g, '\n')
    .replaceAll('\t', ' ')
    .replaceAll(/[^\n -~]/gu, '?')
}
