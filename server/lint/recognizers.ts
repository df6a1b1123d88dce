/**
 * How the beginning of a file shows that there is something in it. Pure. The text is an image's, which
 * may be made to keep a regular expression busy: none here goes over the same characters more than a
 * bounded number of times, so blanks are `[ \t]*` within a line and never `\s*` across lines.
 *
 * What is returned is told to people: names of accounts and counts, never a part of a secret.
 */
import { printable } from '#server/printable.ts'

/** The beginning of a file that is not empty. */
export interface FileHead {
  readonly bytes: Buffer
  /** The same as text. */
  readonly text: string
}

/** Returns undefined when there is nothing, else which of it, empty when there is no more to say. */
export type Recognize = (file: FileHead) => string | undefined

/** A line of a report is read by a person. */
const ACCOUNTS_NAMED_MAX = 8
const ACCOUNT_LENGTH_MAX = 32

/** A crypt(5) hash: `$id$…`, the extended DES of the BSDs, or DES. `!` before it locks the account and keeps the hash. */
const PASSWORD_HASH = /^[!*]*(?:\$[^$]+\$.|_[./0-9A-Za-z]{19}$|[./0-9A-Za-z]{13}$)/

/**
 * PEM (RFC 7468) and what OpenSSH and PGP made of it, also as a string in JSON: the line alone is in
 * many manuals, so that something has to follow that looks like a key.
 */
const PEM_KEY =
  /-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|\s){1,40}(?:[A-Za-z0-9+/]{16}|Proc-Type:|Version:|Comment:|=)/
const OTHER_KEY = /^(?:PuTTY-User-Key-File-\d|-----BEGIN OpenVPN Static key)/m

/** Looked for first: it is fast, and most files have none. */
const KEY_WORDS = ['PRIVATE KEY', 'PuTTY-User-Key-File-', 'OpenVPN Static key']

/** MIT Kerberos, "The Kerberos Keytab Binary File Format": 5, then version 1 or 2. */
const KEYTAB_MAGICS = [Buffer.of(5, 1), Buffer.of(5, 2)]

/** For files that are there only when they hold something. */
export function notEmpty(): string {
  return ''
}

export function matching(pattern: RegExp): Recognize {
  return ({ text }) => (pattern.test(text) ? '' : undefined)
}

/** How many lines there are that are no comments; `what` is one of them. */
export function linesCounted(what: string): Recognize {
  return ({ text }) => {
    const count = text.split('\n').filter((line) => /^[ \t]*[^#\s]/.test(line)).length
    return count > 0 ? `${count} ${what}${count === 1 ? '' : 's'}` : undefined
  }
}

/** Accounts whose second field (passwd, shadow, gshadow) is the hash of a password. */
export function passwordHashes({ text }: FileHead): string | undefined {
  return namesOf(text, (password) => PASSWORD_HASH.test(password))
}

/** Accounts whose second field is there and empty. */
export function noPasswords({ text }: FileHead): string | undefined {
  return namesOf(text, (password) => password === '')
}

export function privateKey({ bytes, text }: FileHead): string | undefined {
  if (!KEY_WORDS.some((words) => bytes.includes(words))) return undefined
  return PEM_KEY.test(text) || OTHER_KEY.test(text) ? '' : undefined
}

export function keytab({ bytes }: FileHead): string | undefined {
  return KEYTAB_MAGICS.some((magic) => bytes.subarray(0, 2).equals(magic)) ? '' : undefined
}

function namesOf(text: string, isWanted: (password: string) => boolean): string | undefined {
  const names: string[] = []
  for (const line of text.split('\n')) {
    const [name = '', password] = line.split(':', 2)
    if (password !== undefined && name !== '' && isWanted(password)) names.push(name)
  }
  if (names.length === 0) return undefined
  const shown = names
    .slice(0, ACCOUNTS_NAMED_MAX)
    .map((name) => printable(name.slice(0, ACCOUNT_LENGTH_MAX)))
  const others = names.length - shown.length
  return `${shown.join(', ')}${others > 0 ? ` and ${others} others` : ''}`
}
