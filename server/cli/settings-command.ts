/** `bootwire client set`: what a client is told beside who it is. */
import { readFileSync } from 'node:fs'
import type { ClientDetails, SettingsRequest } from '#server/admin/admin-api.ts'
import type { SettingsView } from '#server/clients/settings-store.ts'
import { CLIENT } from './arguments.ts'
import { callerPath } from './caller-path.ts'
import { adminClient, type Cli, itemPath, UsageError } from './command.ts'
import type { Terminal } from './terminal.ts'

export function settingsCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'set <client> [settings..]',
    'Give a client settings of its own, also while it runs',
    (cli) =>
      cli
        .positional('client', CLIENT)
        .positional('settings', {
          type: 'string',
          array: true,
          default: [] as string[],
          describe: 'NAME=VALUE; NAME= takes one back',
        })
        .option('secret', {
          type: 'string',
          array: true,
          default: [] as string[],
          requiresArg: true,
          describe: 'NAME=FILE: for machines that prove who they are, and their root alone',
        })
        .option('locale', place('Such as de_AT.UTF-8'))
        .option('timezone', place('Such as Europe/Vienna'))
        .option('keymap', place('Of the keyboard, such as de'))
        .example('$0 client set kiosk-1 URL=https://intranet/ --timezone Europe/Vienna', '')
        .example('$0 client set kiosk-1 URL=', 'takes it back')
        .example('$0 client set kiosk-1 --secret VPN_KEY=./kiosk-1.key', ''),
    async (options) => {
      const { locale, timezone, keymap } = options
      const body: SettingsRequest = {
        values: {
          ...Object.fromEntries(options.settings.map(openSetting)),
          ...Object.fromEntries(options.secret.map(secretSetting)),
        },
        ...placeWish('locale', locale),
        ...placeWish('timezone', timezone),
        ...placeWish('keymap', keymap),
      }
      const path = itemPath('clients', options.client, '/settings')
      const client = await adminClient(options).ask<ClientDetails>('POST', path, body)
      terminal.out(`${client.hostname} has ${formatSettings(client.settings) ?? 'no settings'}\n`)
    },
  )
}

function place(describe: string) {
  return {
    type: 'string' as const,
    requiresArg: true,
    describe: `${describe}; none leaves it to the image`,
  }
}

function placeWish(name: 'locale' | 'timezone' | 'keymap', value: string | undefined) {
  if (value === undefined) return {}
  return { [name]: value === 'none' ? null : value }
}

function openSetting(text: string): [string, { value: string; isSecret: boolean } | null] {
  const [name, value] = split(text)
  return [name, value === '' ? null : { value, isSecret: false }]
}

/** Not on the command line, which everybody on the machine can see. */
function secretSetting(text: string): [string, { value: string; isSecret: boolean }] {
  const [name, file] = split(text)
  try {
    return [name, { value: readFileSync(callerPath(file), 'utf8'), isSecret: true }]
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new UsageError(`Cannot read the secret ${name}: ${why}`)
  }
}

function split(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  throw new UsageError(`Cannot use the setting "${text}": expected NAME=VALUE`)
}

/** `URL=https://…, VPN_KEY (secret)`; undefined for none. */
export function formatSettings(view: SettingsView): string | undefined {
  const parts = [
    ...Object.entries(view.values).map(([name, value]) => `${name}=${value}`),
    ...view.secrets.map((name) => `${name} (secret)`),
    ...[view.locale, view.timezone, view.keymap].filter((it) => it !== undefined),
  ]
  return parts.length === 0 ? undefined : parts.join(', ')
}
