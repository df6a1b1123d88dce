/** Files of shell assignments, `NAME='value'` a line: what /init and the agent tell each other. */
import { invariant } from '#shared/invariant.ts'

const NAME = /^[A-Z][A-Z0-9_]*$/

export function renderAssignments(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => {
      invariant(NAME.test(name), `shell variable ${name}`)
      return `${name}=${quoteForShell(value)}\n`
    })
    .join('')
}

/** A quote ends the quoted part, stands escaped by itself, and begins the next. */
export function quoteForShell(value: string): string {
  return `'${value.replaceAll("'", `'\\''`)}'`
}

/** Lines that are no assignments are passed over. */
export function parseAssignments(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, name, value] = /^([A-Z][A-Z0-9_]*)='(.*)'$/.exec(line) ?? []
    if (name !== undefined && value !== undefined) values.set(name, value.replaceAll(`'\\''`, "'"))
  }
  return values
}
