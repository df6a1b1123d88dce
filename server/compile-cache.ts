/**
 * Keeps compiled code from one start to the next: half of the time of a command, and most of a worker's
 * start, is the compiler's.
 */
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * For this process and its workers, in the user's own cache folder: who can write there can decide what
 * runs, which is why it is not the common temporary folder that Node would take. A folder that cannot be
 * written is none. Node looks at the variable NODE_COMPILE_CACHE first.
 */
export function keepCompiledCode(): void {
  const { NODE_COMPILE_CACHE: given, XDG_CACHE_HOME: caches } = process.env
  const folder = given || join(caches || join(homedir(), '.cache'), 'bootwire')
  enableCompileCache(folder)
  process.env['NODE_COMPILE_CACHE'] = folder // what workers go by
}
