/** What a script of the initramfs leaves in the folder that becomes the system's /run. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runProgram } from './child-run.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

const SCRIPTS = join(import.meta.dirname, '../../initramfs')

/** Runs the script with a new folder and the arguments; returns the content of each file by its path. */
export async function filesInRun(script: string, ...args: string[]) {
  await using temporary = await createTemporaryFolder()
  await runProgram('busybox', ['sh', join(SCRIPTS, script), temporary.path, ...args])
  const entries = await readdir(temporary.path, { recursive: true, withFileTypes: true })
  const files: Record<string, string> = {}
  for (const entry of entries.filter((it) => it.isFile())) {
    const path = join(entry.parentPath, entry.name)
    files[path.slice(temporary.path.length + 1)] = await readFile(path, 'utf8')
  }
  return files
}
