/** The initramfs with the agent, built again only when something it is made of has changed. */
import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CACHE_FOLDER, exists } from './build-cache.ts'
import { runProgram } from './child-run.ts'

/** Where `npm run initramfs` leaves it and the server looks for it. */
export const AGENT_IMAGE: string = join(CACHE_FOLDER, 'initramfs', 'agent.img')

const ROOT = join(import.meta.dirname, '../..')

const MADE_OF = ['agent', 'shared', 'initramfs', 'package-lock.json']

/** Builds it when needed; `onBuild` is told before that. */
export async function ensureAgentImage(onBuild: () => void = () => undefined): Promise<string> {
  const hash = await hashOfSources()
  const stamp = `${AGENT_IMAGE}.sources`
  const known = await readFile(stamp, 'utf8').catch(() => '')
  if (known === hash && (await exists(AGENT_IMAGE))) return AGENT_IMAGE
  onBuild()
  await runProgram(process.execPath, [join(ROOT, 'initramfs/build.ts')], { cwd: ROOT })
  await writeFile(stamp, hash)
  return AGENT_IMAGE
}

async function hashOfSources(): Promise<string> {
  const hash = createHash('sha256')
  for (const source of MADE_OF) {
    for (const path of await filesOf(join(ROOT, source))) {
      hash.update(`${path}\n`).update(await readFile(path))
    }
  }
  return hash.digest('hex')
}

async function filesOf(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => [])
  if (entries.length === 0) return [path]
  const files = entries.filter((entry) => entry.isFile())
  return files
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted((a, b) => (a < b ? -1 : 1))
}
