import { resolve } from 'node:path'

/**
 * Makes a path absolute as who typed it means it: npm runs its scripts in the checkout, and says in
 * INIT_CWD where it was called.
 */
export function callerPath(path: string, environment: NodeJS.ProcessEnv = process.env): string {
  return resolve(environment['INIT_CWD'] ?? process.cwd(), path)
}
