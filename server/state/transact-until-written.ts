/** Read, change, write back: again when somebody else was faster. */
import { invariant } from '#shared/invariant.ts'
import type { StateChange, StateCondition, StateStore } from './state-store.ts'

/** Losing this many races in a row means that the conditions can never hold: a bug, not bad luck. */
const TRIES_MAX = 100

/** What one attempt wants to write, and what it returns once it is written. */
export interface Attempt<Result> {
  readonly conditions: readonly StateCondition[]
  readonly changes: readonly StateChange[]
  readonly result: Result
}

/** Calls `attempt` until its conditions hold and its changes are durable. */
export async function transactUntilWritten<Result>(
  store: StateStore,
  attempt: () => Promise<Attempt<Result>>,
): Promise<Result> {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const { conditions, changes, result } = await attempt()
    if (changes.length === 0) return result
    if ((await store.transact(conditions, changes)) !== undefined) return result
  }
  invariant(false, `a transaction failed ${TRIES_MAX} times in a row`)
}
