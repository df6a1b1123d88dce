/** C0 and C1 control characters: what a terminal would obey instead of showing (ECMA-48). */
// oxlint-disable-next-line no-control-regex -- they are what this is about
const CONTROL_CHARACTERS = /[\u0000-\u001f\u007f-\u009f]/g

/**
 * Returns the text with its control characters spelled out (`\x1b`). Serial numbers, notices and
 * names come from machines nobody has approved; shown as they are, they could drive the
 * administrator's terminal.
 */
export function printable(text: string): string {
  return text.replace(
    CONTROL_CHARACTERS,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
