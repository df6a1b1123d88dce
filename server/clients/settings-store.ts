/**
 * What each client is told beside who it is: settings of its own, some of them secret, its locale, and its
 * SSH host key. Apart from the record of the client, so that what is shown of that never has a secret in it.
 */
import { CLIENT_SETTINGS_KEYS, type ClientSettingsRecord } from '#server/state/records.ts'
import type { StateStore } from '#server/state/state-store.ts'
import { transactUntilWritten } from '#server/state/transact-until-written.ts'
import { BootwireError } from '#shared/errors.ts'
import {
  type ClientSettings,
  KEYMAP,
  LOCALE,
  SETTINGS_LENGTH_MAX,
  SETTINGS_MAX,
  TIMEZONE,
} from '#shared/identity/client-settings.ts'
import { makeSshHostKey } from './ssh-host-key.ts'

/** What is null is taken back, what is absent stays. */
export interface SettingsWish {
  readonly values?: Readonly<Record<string, { value: string; isSecret: boolean } | null>>
  readonly locale?: string | null | undefined
  readonly timezone?: string | null | undefined
  readonly keymap?: string | null | undefined
}

/** What people see: secrets by their names. */
export interface SettingsView {
  readonly values: Readonly<Record<string, string>>
  readonly secrets: readonly string[]
  readonly locale?: string
  readonly timezone?: string
  readonly keymap?: string
  /** As in a `known_hosts` file. */
  readonly sshHostKey?: string
}

const NOTHING: ClientSettingsRecord = { values: {} }

export class SettingsStore {
  readonly #store: StateStore

  constructor(store: StateStore) {
    this.#store = store
  }

  /** @throws {BootwireError} INVALID_ARGUMENT, LIMIT_EXCEEDED */
  async set(clientId: string, wish: SettingsWish): Promise<void> {
    assertPlace(wish)
    await this.#change(clientId, (record) => {
      const values = { ...record.values }
      for (const [name, value] of Object.entries(wish.values ?? {})) {
        if (value === null) delete values[name]
        else values[name] = value
      }
      assertFitting(values)
      const { locale, timezone, keymap, ...rest } = record
      return {
        ...rest,
        values,
        ...chosen('locale', locale, wish.locale),
        ...chosen('timezone', timezone, wish.timezone),
        ...chosen('keymap', keymap, wish.keymap),
      }
    })
  }

  async view(clientId: string): Promise<SettingsView> {
    const { values, sshHostKey, ...place } = await this.#load(clientId)
    const all = Object.entries(values)
    const open = all.filter(([, { isSecret }]) => !isSecret)
    const secrets = all.filter(([, { isSecret }]) => isSecret)
    return {
      ...place,
      values: Object.fromEntries(open.map(([name, { value }]) => [name, value])),
      secrets: secrets.map(([name]) => name),
      ...(sshHostKey !== undefined && { sshHostKey: sshHostKey.publicKey.trim() }),
    }
  }

  /** What the machine is told: nothing secret, and no key, unless it has proven that it is the client. */
  async forMachine(
    { id, hostname }: { readonly id: string; readonly hostname: string },
    isAuthenticated: boolean,
  ): Promise<ClientSettings> {
    const { values, sshHostKey, ...place } = isAuthenticated
      ? await this.#withHostKey(id, hostname)
      : await this.#load(id)
    const told = Object.entries(values).filter(([, { isSecret }]) => isAuthenticated || !isSecret)
    return {
      ...place,
      values: told.map(([name, { value, isSecret }]) => ({
        name,
        value,
        ...(isSecret && { isSecret }),
      })),
      ...(isAuthenticated && sshHostKey !== undefined && { sshHostKey }),
    }
  }

  /** Who had the machine may have its host key: it gets another one. */
  async forgetHostKey(clientId: string): Promise<void> {
    await this.#change(clientId, ({ sshHostKey: _former, ...record }) => record)
  }

  async remove(clientId: string): Promise<void> {
    await this.#store.transact([], [{ type: 'delete', key: CLIENT_SETTINGS_KEYS + clientId }])
  }

  /** Made when it is first wanted. */
  async #withHostKey(clientId: string, hostname: string): Promise<ClientSettingsRecord> {
    const record = await this.#load(clientId)
    if (record.sshHostKey !== undefined) return record
    return await this.#change(clientId, (now) => ({
      ...now,
      sshHostKey: now.sshHostKey ?? makeSshHostKey(`root@${hostname}`),
    }))
  }

  async #load(clientId: string): Promise<ClientSettingsRecord> {
    const entry = await this.#store.get(CLIENT_SETTINGS_KEYS + clientId)
    return (entry?.value as ClientSettingsRecord | undefined) ?? NOTHING
  }

  async #change(
    clientId: string,
    change: (record: ClientSettingsRecord) => ClientSettingsRecord,
  ): Promise<ClientSettingsRecord> {
    const key = CLIENT_SETTINGS_KEYS + clientId
    return await transactUntilWritten(this.#store, async () => {
      const entry = await this.#store.get(key)
      const value = change((entry?.value as ClientSettingsRecord | undefined) ?? NOTHING)
      return {
        conditions: [{ key, revision: entry?.revision ?? 0 }],
        changes: [{ type: 'put', key, value }],
        result: value,
      }
    })
  }
}

function chosen<Name extends 'locale' | 'timezone' | 'keymap'>(
  name: Name,
  before: string | undefined,
  wish: string | null | undefined,
): { readonly [key in Name]?: string } {
  const value = wish === undefined ? before : wish
  return (value === undefined || value === null ? {} : { [name]: value }) as {
    readonly [key in Name]?: string
  }
}

function assertPlace({ locale, timezone, keymap }: SettingsWish): void {
  const wrong = (what: string, value: string, expected: string) =>
    new BootwireError('INVALID_ARGUMENT', `Cannot use the ${what} "${value}": expected ${expected}`)
  if (typeof locale === 'string' && !LOCALE.test(locale)) {
    throw wrong('locale', locale, 'one such as de_AT.UTF-8')
  }
  if (typeof timezone === 'string' && !TIMEZONE.test(timezone)) {
    throw wrong('time zone', timezone, 'one such as Europe/Vienna')
  }
  if (typeof keymap === 'string' && !KEYMAP.test(keymap)) {
    throw wrong('keyboard', keymap, 'one such as de')
  }
}

function assertFitting(values: ClientSettingsRecord['values']): void {
  const all = Object.entries(values)
  const length = all.reduce((sum, [name, { value }]) => sum + name.length + value.length, 0)
  if (all.length <= SETTINGS_MAX && length <= SETTINGS_LENGTH_MAX) return
  throw new BootwireError(
    'LIMIT_EXCEEDED',
    `Cannot keep ${all.length} settings of ${length} characters for one client: expected at most ${SETTINGS_MAX}, of ${SETTINGS_LENGTH_MAX} characters together`,
  )
}
