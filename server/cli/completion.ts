/** Completes names of clients and vDisks by asking the running server. */
import type { ClientView, VDiskView } from '#server/admin/admin-api.ts'
import { defaultStateFolder } from '#server/state/state-folder.ts'
import { adminClient } from './command.ts'

/** What yargs has read of the command line so far. */
interface Words {
  readonly _?: readonly (string | number)[]
  readonly state?: unknown
}

type DefaultCompletions = (
  onCompleted?: (error: Error | null, completions: string[] | undefined) => void,
) => void

const CLIENT_ACTIONS = new Set(['show', 'approve', 'refuse', 'assign', 'unassign', 'rename', 'rm'])
const VDISK_ACTIONS = new Set(['show', 'rm'])

/** Completion function of yargs: commands and options from yargs itself, names from the server. */
export function completeNames(
  _current: string,
  words: Words,
  completionFilter: DefaultCompletions,
  done: (completions: string[]) => void,
): void {
  completionFilter((_error, defaults = []) => {
    void namesFor(words).then((names) => done(names.length > 0 ? names : defaults))
  })
}

async function namesFor({ _: words = [], state }: Words): Promise<string[]> {
  // The first word is the program, the last one what is being typed.
  const [, group, action, ...typed] = words.map(String)
  const options = { state: typeof state === 'string' ? state : defaultStateFolder() }
  try {
    if (group === 'client' && CLIENT_ACTIONS.has(action ?? '') && typed.length <= 1) {
      const clients = await adminClient(options).ask<ClientView[]>('GET', '/clients')
      return clients.map(({ hostname }) => hostname)
    }
    const wantsVDisk =
      group === 'vdisk' ? VDISK_ACTIONS.has(action ?? '') : action?.endsWith('assign') === true
    if (!wantsVDisk) return []
    const vdisks = await adminClient(options).ask<VDiskView[]>('GET', '/vdisks')
    return vdisks.map(({ name }) => name)
  } catch {
    return [] // without a server there are no names to complete
  }
}
