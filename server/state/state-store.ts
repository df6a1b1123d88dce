/**
 * The database of clients, vDisks and boots, as narrow as its users need it: small values under
 * ordered keys, changed together or not at all. `level-state-store.ts` is the embedded engine;
 * engines for several servers implement the same and pass the same conformance suite.
 */

/** Values are JSON; `revision` is the store-wide number of the change that wrote the value. */
export interface StateEntry {
  readonly key: string
  readonly value: unknown
  readonly revision: number
}

/** A condition on a key: the revision it must have, 0 for "must not exist". */
export interface StateCondition {
  readonly key: string
  readonly revision: number
}

export type StateChange =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'delete'; readonly key: string }

export interface StateStore {
  get(key: string): Promise<StateEntry | undefined>
  /** All entries whose key starts with the prefix, in key order. */
  range(prefix: string): Promise<StateEntry[]>
  /**
   * Applies all changes durably if every condition holds, else none. Returns the new revision, or
   * undefined when a condition failed.
   */
  transact(
    conditions: readonly StateCondition[],
    changes: readonly StateChange[],
  ): Promise<number | undefined>
  close(): Promise<void>
}
