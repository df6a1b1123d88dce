/**
 * Paths with wildcards, followed down folder by folder, so that a walk enters only folders in which
 * something can match. `*` stands for any text in a name, `**` for any number of folders, `~` at the
 * beginning for the home folder of a person. Pure.
 */
import { invariant } from '#shared/invariant.ts'

/** Where people have their home; the latter two on systems whose `/home` is a link (OSTree). */
const HOMES = ['/root', '/home/*', '/var/roothome', '/var/home/*']

const ANY_FOLDERS = '**'
type Part = string | RegExp

/** What is left of a pattern below the folder where a walk is. */
export interface Trail<Owner> {
  /** Whose pattern it is. */
  readonly owner: Owner
  readonly parts: readonly Part[]
}

export interface Step<Owner> {
  /** Whose patterns this name is the end of. */
  readonly owners: readonly Owner[]
  /** What can match below it, should it be a folder. */
  readonly trails: readonly Trail<Owner>[]
}

/** Returns what to follow from the root of the tree. */
export function trailsOf<Owner>(owner: Owner, pattern: string): Trail<Owner>[] {
  const patterns = pattern.startsWith('~/')
    ? HOMES.map((home) => home + pattern.slice(1))
    : [pattern]
  return patterns.map((path) => ({ owner, parts: partsOf(path) }))
}

/** Follows all trails into the entry with this name. */
export function step<Owner>(trails: readonly Trail<Owner>[], name: string): Step<Owner> {
  const owners = new Set<Owner>()
  const below: Trail<Owner>[] = []
  const follow = ({ owner, parts: [part, ...rest] }: Trail<Owner>): void => {
    if (part === undefined) return
    if (part === ANY_FOLDERS) {
      below.push({ owner, parts: [part, ...rest] })
      follow({ owner, parts: rest })
    } else if (matches(part, name)) {
      if (rest.length === 0) owners.add(owner)
      else below.push({ owner, parts: rest })
    }
  }
  for (const trail of trails) follow(trail)
  return { owners: [...owners], trails: below }
}

/** Follows all trails down to a folder, as `/home`; empty for the root. */
export function trailsBelow<Owner>(
  trails: readonly Trail<Owner>[],
  folder: string,
): readonly Trail<Owner>[] {
  const names = folder.split('/').slice(1)
  return names.reduce((trails, name) => step(trails, name).trails, trails)
}

function partsOf(path: string): Part[] {
  const [root, ...names] = path.split('/')
  invariant(root === '' && names.at(-1) !== ANY_FOLDERS, `"${path}" names files by absolute paths`)
  return names.map((name) => (name !== ANY_FOLDERS && name.includes('*') ? wildcard(name) : name))
}

function wildcard(name: string): RegExp {
  const literals = name.split('*').map((text) => text.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${literals.join('[^]*')}$`)
}

function matches(part: Part, name: string): boolean {
  return typeof part === 'string' ? part === name : part.test(name)
}
