/** The supervisor as the initramfs has it: one static program. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CACHE_FOLDER, ensureBuilt, recipeKey } from './build-cache.ts'
import { runProgram } from './child-run.ts'

const SOURCE = join(import.meta.dirname, '../../initramfs/supervisor.c')
const FLAGS = ['-std=c11', '-static', '-Os', '-Wall', '-Wextra', '-Wpedantic', '-Werror']

/** Returns the path of the program, compiled when its source has changed. */
export async function ensureSupervisor(): Promise<string> {
  const key = recipeKey([await readFile(SOURCE, 'utf8'), FLAGS])
  return await ensureBuilt(join(CACHE_FOLDER, `supervisor-${key}`), async (path) => {
    await runProgram('gcc', [...FLAGS, '-o', path, SOURCE])
  })
}
