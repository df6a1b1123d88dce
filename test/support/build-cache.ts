/**
 * What tests and the demo build once and keep, below `.cache` in the checkout. A thing is built in a
 * folder of its own beside its place and renamed when it is whole, so what has its name is complete,
 * whoever was killed when, and two that build the same do not meet: the last one's is kept.
 */
import { createHash } from 'node:crypto'
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

export const CACHE_FOLDER: string = join(import.meta.dirname, '../../.cache')

/** Digits of a key that stand in a name: 32 bits tell a few recipes apart. */
const KEY_DIGITS = 8

/** Names a recipe by its content. */
export function recipeKey(recipe: unknown): string {
  return createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, KEY_DIGITS)
}

/** Returns `path`, made by `build` when it is not there: that writes to the path it is given. */
export async function ensureBuilt(
  path: string,
  build: (path: string) => Promise<void>,
): Promise<string> {
  if (await exists(path)) return path
  await mkdir(dirname(path), { recursive: true })
  await removeAbandoned(path)
  const folder = await mkdtemp(`${path}.new-${process.pid}-`)
  try {
    const made = join(folder, 'made')
    await build(made)
    await rename(made, path)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return path
}

/** Removes what builders left that were killed; their process ids stand in the names. */
async function removeAbandoned(path: string): Promise<void> {
  const parent = dirname(path)
  for (const name of await readdir(parent)) {
    const [, pid] = name.startsWith(`${basename(path)}.new-`) ? (/-(\d+)-/.exec(name) ?? []) : []
    if (pid === undefined || (await exists(join('/proc', pid)))) continue
    await rm(join(parent, name), { recursive: true, force: true })
  }
}

export async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  )
}
