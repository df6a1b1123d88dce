/**
 * What was found in each version, kept in the database: a version never changes, and to look into one
 * that is stored it has to be unpacked. Reports are by version id and root, since the same bytes may be
 * versions of several vDisks. One that other rules made counts as none.
 */

import type { LintReport } from '#server/lint/lint-report.ts'
import { RULES_VERSION } from '#server/lint/lint-rules.ts'
import { LINT_KEYS, type LintRecord, type VersionRecord } from '#server/state/records.ts'
import type { StateStore } from '#server/state/state-store.ts'

type RootedVersion = Pick<VersionRecord, 'versionId' | 'root'>

export class LintReports {
  readonly #store: StateStore

  constructor(store: StateStore) {
    this.#store = store
  }

  async get(version: RootedVersion): Promise<LintReport | undefined> {
    const record = (await this.#store.get(keyOf(version)))?.value as LintRecord | undefined
    return record?.rules === RULES_VERSION ? record.report : undefined
  }

  async keep(version: RootedVersion, report: LintReport): Promise<void> {
    const value: LintRecord = { rules: RULES_VERSION, report }
    await this.#store.transact([], [{ type: 'put', key: keyOf(version), value }])
  }

  /** For when the data of the version is gone. */
  async remove(versionId: string): Promise<void> {
    await this.#delete((key) => key.startsWith(`${LINT_KEYS}${versionId}/`))
  }

  /** Removes those of versions that are not there. */
  async sweep(versionIds: ReadonlySet<string>): Promise<void> {
    await this.#delete((key) => !versionIds.has(key.slice(LINT_KEYS.length).split('/', 1)[0] ?? ''))
  }

  async #delete(isWanted: (key: string) => boolean): Promise<void> {
    const keys = (await this.#store.range(LINT_KEYS)).map(({ key }) => key).filter(isWanted)
    if (keys.length > 0)
      await this.#store.transact(
        [],
        keys.map((key) => ({ type: 'delete', key })),
      )
  }
}

function keyOf({ versionId, root }: RootedVersion): string {
  return `${LINT_KEYS}${versionId}/${root.partition}`
}
