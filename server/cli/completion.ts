/**
 * Completes names of clients and vDisks by asking the running server. This happens before yargs
 * sees the command line: its own hook for it runs the command that is being typed.
 */
import { parseArgs } from 'node:util'
import type { ClientView, VDiskView } from '#server/admin/admin-api.ts'
import { defaultStateFolder } from '#server/state/state-folder.ts'
import type { AdminClient } from './admin-client.ts'
import { adminClient } from './command.ts'

/** First argument of a call that wants completions; the words typed so far follow. */
export const COMPLETION_FLAG = '--get-yargs-completions'

const CLIENT_ACTIONS = new Set([
  'show',
  'approve',
  'confirm',
  'refuse',
  'assign',
  'unassign',
  'rename',
  'hydrate',
  'write-cache',
  'set',
  'discard-writes',
  'rm',
])
const VDISK_ACTIONS = new Set([
  'show',
  'versions',
  'promote',
  'rollback',
  'export',
  'trace',
  'lint',
  'write-cache',
  'rm',
])
/** Those that also take one version: `debian@2`. */
const VERSION_ACTIONS = new Set(['promote', 'export', 'trace', 'lint', 'rm'])

type NameKind = 'client' | 'vdisk' | 'vdisk or version'

/** Returns the names that may stand at the end of the command line; none is no failure. */
export async function completeNames(args: readonly string[]): Promise<string[]> {
  const words = args.slice(args.indexOf(COMPLETION_FLAG) + 1)
  const { positionals, values } = parseArgs({
    args: words,
    options: { state: { type: 'string' }, socket: { type: 'string' } },
    allowPositionals: true,
    strict: false,
  })
  const kind = words.at(-2) === '--vdisk' ? 'vdisk' : expectedNames(positionals)
  const isOption = words.at(-1)?.startsWith('-') === true
  if (kind === undefined || isOption) return []
  const state = typeof values.state === 'string' ? values.state : defaultStateFolder()
  const socket = typeof values.socket === 'string' ? values.socket : undefined
  try {
    return await fetchNames(adminClient({ state, socket }), kind)
  } catch {
    return [] // without a server there are no names to complete
  }
}

/** What the last of the words is: `['bootwire', 'client', 'show', 'cl']` ends in a client. */
export function expectedNames(words: readonly string[]): NameKind | undefined {
  const [, group, action = '', ...typed] = words
  if (group === 'boots') return words.length === 3 ? 'client' : undefined
  if (typed.length === 0) return undefined
  if (group === 'vdisk' && VDISK_ACTIONS.has(action) && typed.length === 1) {
    return VERSION_ACTIONS.has(action) ? 'vdisk or version' : 'vdisk'
  }
  if (group !== 'client' || !CLIENT_ACTIONS.has(action)) return undefined
  if (typed.length === 1) return 'client'
  return ['assign', 'unassign', 'discard-writes'].includes(action) ? 'vdisk' : undefined
}

async function fetchNames(client: AdminClient, kind: NameKind): Promise<string[]> {
  if (kind !== 'client') {
    const vdisks = await client.ask<VDiskView[]>('GET', '/vdisks')
    return vdisks.flatMap(({ name, versions }) => {
      const numbered = versions.map(({ number }) => `${name}@${number}`)
      return kind === 'vdisk' ? [name] : [name, ...numbered]
    })
  }
  return (await client.ask<ClientView[]>('GET', '/clients')).map(({ hostname }) => hostname)
}
