/** The text in which LVM keeps what it knows of a volume group (lvm2, `lib/format_text`). Pure. */

export type LvmValue = string | number | readonly LvmValue[] | LvmSection

export interface LvmSection {
  readonly [name: string]: LvmValue | undefined
}

const TOKEN =
  /\s+|#[^\n]*|(?<mark>[{}[\],=])|"(?<text>(?:[^"\\]|\\.)*)"|(?<number>-?[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.+-])|(?<name>[A-Za-z0-9_.+/-]+)/gsy

/** Sections lie in each other five deep. */
const DEPTH_MAX = 16

interface Token {
  readonly kind: 'mark' | 'text' | 'number' | 'name'
  readonly value: string
}

/** @throws {SyntaxError} that says what stands where something else was expected */
export function parseLvmText(text: string): LvmSection {
  const tokens = new Tokens(tokenize(text))
  const section = parseSection(tokens, 0)
  if (!tokens.isAtEnd) throw unexpected(tokens.peek())
  return section
}

/** What is not a section counts as an empty one. */
export function sectionAt(section: LvmSection, name: string): LvmSection {
  const value = Object.hasOwn(section, name) ? section[name] : undefined
  return isSection(value) ? value : {}
}

/** The sections in a section, by name, in their order. */
export function sectionsOf(section: LvmSection): (readonly [string, LvmSection])[] {
  return Object.entries(section).flatMap(([name, value]) =>
    isSection(value) ? [[name, value] as const] : [],
  )
}

function isSection(value: LvmValue | undefined): value is LvmSection {
  return typeof value === 'object' && !Array.isArray(value)
}

class Tokens {
  readonly #tokens: readonly Token[]
  #next = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  get isAtEnd(): boolean {
    return this.#next === this.#tokens.length
  }

  peek(): Token | undefined {
    return this.#tokens[this.#next]
  }

  take(): Token | undefined {
    const token = this.peek()
    this.#next += 1
    return token
  }

  takeMark(mark: string): boolean {
    const token = this.peek()
    if (token?.kind !== 'mark' || token.value !== mark) return false
    this.#next += 1
    return true
  }

  expectMark(mark: string): void {
    if (!this.takeMark(mark)) throw unexpected(this.peek())
  }
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  for (const { 0: whole, groups = {} } of text.matchAll(TOKEN)) {
    at += whole.length
    for (const kind of ['mark', 'text', 'number', 'name'] as const) {
      const value = groups[kind]
      if (value !== undefined) tokens.push({ kind, value })
    }
  }
  // Sticky: the matching ends where nothing fits.
  if (at < text.length) throw new SyntaxError(`character ${at} is none of LVM's text`)
  return tokens
}

function parseSection(tokens: Tokens, depth: number): LvmSection {
  if (depth > DEPTH_MAX) throw new SyntaxError(`sections lie more than ${DEPTH_MAX} deep`)
  const entries: [string, LvmValue][] = []
  while (!tokens.isAtEnd) {
    const name = tokens.peek()
    if (name?.kind === 'mark' && name.value === '}') break
    tokens.take()
    // A volume may be called by a number.
    if (name?.kind !== 'name' && name?.kind !== 'number') throw unexpected(name)
    entries.push([name.value, parseEntry(tokens, depth)])
  }
  return Object.fromEntries(entries)
}

function parseEntry(tokens: Tokens, depth: number): LvmValue {
  if (tokens.takeMark('{')) {
    const section = parseSection(tokens, depth + 1)
    tokens.expectMark('}')
    return section
  }
  tokens.expectMark('=')
  if (!tokens.takeMark('[')) return parseScalar(tokens.take())
  const list: LvmValue[] = []
  while (!tokens.takeMark(']')) {
    list.push(parseScalar(tokens.take()))
    tokens.takeMark(',')
  }
  return list
}

function parseScalar(token: Token | undefined): LvmValue {
  if (token?.kind === 'number') return Number(token.value)
  if (token?.kind === 'text') return token.value.replace(/\\(.)/gs, '$1')
  throw unexpected(token)
}

function unexpected(token: Token | undefined): SyntaxError {
  return new SyntaxError(
    token === undefined ? 'it ends too early' : `"${token.value}" is misplaced`,
  )
}
