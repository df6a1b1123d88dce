/**
 * The apt sources of this machine that belong to its distribution, as text for mmdebstrap: what is
 * installed in a vDisk comes from where this machine itself is served. Sources of others (a vendor's
 * repository) are left out; they say nothing about the distribution and their keys may be anywhere.
 * Formats: sources.list(5), one-line style and deb822.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Text of one file of sources, and which of the two styles it is in. */
export interface SourcesFile {
  readonly style: 'one-line' | 'deb822'
  readonly text: string
}

/** Reads what apt reads: `sources.list` and what `sources.list.d` holds by the right names. */
export async function readSourcesFiles(folder = '/etc/apt'): Promise<SourcesFile[]> {
  const parts = join(folder, 'sources.list.d')
  const names = await readdir(parts).catch(() => [])
  const paths = [
    join(folder, 'sources.list'),
    ...names.toSorted((a, b) => (a < b ? -1 : 1)).map((name) => join(parts, name)),
  ]
  const files: SourcesFile[] = []
  for (const path of paths) {
    const style = path.endsWith('.sources') ? 'deb822' : 'one-line'
    if (style === 'one-line' && !path.endsWith('.list')) continue
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text !== undefined) files.push({ style, text })
  }
  return files
}

/** A release, what has been corrected since, and its names before Debian 11. */
const SUITES = ['', '-updates', '-security', '/updates']

/** The release as it came out last, without what has been corrected since. */
export const RELEASE_POCKET: readonly string[] = ['']

/**
 * Returns the sources of binary packages of one release (`bookworm`, `bookworm-security`, but not
 * its backports), each style as one text that stands for itself. `suites`: what follows the name of
 * the release in those that are wanted.
 */
export function sourcesOfRelease(
  files: readonly SourcesFile[],
  codename: string,
  suites: readonly string[] = SUITES,
): SourcesFile[] {
  const isWanted = (suite: string) => suites.some((ending) => suite === codename + ending)
  return files
    .map(({ style, text }) => ({
      style,
      text: style === 'deb822' ? stanzas(text, isWanted) : lines(text, isWanted),
    }))
    .filter(({ text }) => text !== '')
}

/** `deb [options] URI SUITE COMPONENT…` */
const ONE_LINE = /^deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(?<suite>\S+)/

function lines(text: string, isWanted: (suite: string) => boolean): string {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => isWanted(ONE_LINE.exec(line)?.groups?.['suite'] ?? ' '))
    .map((line) => `${line}\n`)
    .join('')
}

function stanzas(text: string, isWanted: (suite: string) => boolean): string {
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .split(/\n\s*\n/)
    .map((stanza) => wantedStanza(stanza.trim(), isWanted))
    .filter((stanza) => stanza !== '')
    .map((stanza) => `${stanza}\n`)
    .join('\n')
}

/** The stanza with its wanted suites only, without source packages; empty when nothing is left. */
function wantedStanza(stanza: string, isWanted: (suite: string) => boolean): string {
  if (field(stanza, 'Enabled').includes('no') || !field(stanza, 'Types').includes('deb')) return ''
  const suites = field(stanza, 'Suites').filter(isWanted)
  if (suites.length === 0) return ''
  return stanza
    .replace(/^Suites:.*$/im, `Suites: ${suites.join(' ')}`)
    .replace(/^Types:.*$/im, 'Types: deb')
}

function field(stanza: string, name: string): string[] {
  const [, value = ''] = new RegExp(`^${name}:(.*)$`, 'im').exec(stanza) ?? []
  return value.trim().split(/\s+/)
}

/**
 * Returns the settings by which this machine's apt reaches its mirrors (proxies, certificates,
 * whether a mirror may be old), out of `apt-config dump`.
 */
export function transportSettings(dump: string): string[] {
  return dump
    .split('\n')
    .filter((line) =>
      /^Acquire::(https?::|ftp::|Retries|Check-Valid-Until|Check-Date).* "(?!")/.test(line),
    )
}
