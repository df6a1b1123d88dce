/** What a check found, each thing once, with the versions that suffer from it. */
import type { StoreDamage } from '../chunk-store.ts'

/** More are counted, not told: a lost disk would fill the screen. */
const TOLD_MAX = 1000

export class DamageList {
  readonly #damages = new Map<string, { readonly text: string; readonly versions: Set<string> }>()

  /** `key` says what it is; the first text stays. */
  add(key: string, text: string, versionId?: string): void {
    const damage = this.#damages.get(key) ?? { text, versions: new Set() }
    this.#damages.set(key, damage)
    if (versionId !== undefined) damage.versions.add(versionId)
  }

  has(key: string): boolean {
    return this.#damages.has(key)
  }

  /** Adds a version to a damage that is known. Returns false when it is not. */
  blame(key: string, versionId: string): boolean {
    this.#damages.get(key)?.versions.add(versionId)
    return this.#damages.has(key)
  }

  list(): StoreDamage[] {
    const all = [...this.#damages.values()]
    const told = all.slice(0, TOLD_MAX).map(toDamage)
    const rest = all.slice(TOLD_MAX)
    if (rest.length === 0) return told
    const versions = new Set(rest.flatMap(({ versions }) => [...versions]))
    return [...told, toDamage({ text: `${rest.length} more chunks are damaged`, versions })]
  }
}

function toDamage({
  text,
  versions,
}: {
  readonly text: string
  readonly versions: ReadonlySet<string>
}): StoreDamage {
  return { text, versionIds: [...versions] }
}
