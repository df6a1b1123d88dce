/** What a client is told beside who it is: settings of its own, its place in the world, its SSH host key. */
import * as v from 'valibot'

/** Settings of one client: what a person keeps an eye on. */
export const SETTINGS_MAX = 64

/** A certificate with its chain, or a private key. */
export const SETTING_LENGTH_MAX = 4096

/** All together, so that a control message (64 KiB) holds them, each character escaped. */
export const SETTINGS_LENGTH_MAX = 24_576

/** A variable of a shell, which is what scripts on the client read them as. */
export const SETTING_NAME: RegExp = /^[A-Za-z][A-Za-z0-9_]{0,62}$/

/** glibc's form: `de_AT.UTF-8`, `C.UTF-8`, `sr_RS@latin`. */
export const LOCALE: RegExp = /^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$/

/** A path below zoneinfo, which cannot lead out of it: `Europe/Vienna`. */
export const TIMEZONE: RegExp = /^[A-Za-z0-9_+-]{1,32}(\/[A-Za-z0-9_+-]{1,32}){0,2}$/

/** Of the console and of X: `de`, `us`, `de-latin1`. */
export const KEYMAP: RegExp = /^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/

// oxlint-disable-next-line no-control-regex -- a value is text, with tabs and lines
const VALUE = /^[^\u0000-\u0008\u000b-\u001f\u007f]*$/

export const settingName: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.regex(SETTING_NAME, 'expected letters, digits and "_", beginning with a letter'),
)
export const settingValue: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.maxLength(SETTING_LENGTH_MAX),
  v.regex(VALUE, 'expected text without control characters'),
)

export const clientSettingsSchema = v.object({
  values: v.pipe(
    v.array(
      v.object({
        name: settingName,
        value: settingValue,
        /** For root alone. */
        isSecret: v.optional(v.boolean()),
      }),
    ),
    v.maxLength(SETTINGS_MAX),
  ),
  locale: v.optional(v.pipe(v.string(), v.regex(LOCALE))),
  timezone: v.optional(v.pipe(v.string(), v.regex(TIMEZONE))),
  keymap: v.optional(v.pipe(v.string(), v.regex(KEYMAP))),
  /** Only for a machine that has proven who it is; others make their own at each boot. */
  sshHostKey: v.optional(
    v.object({
      /** As OpenSSH keeps it (PROTOCOL.key). */
      privateKey: v.pipe(v.string(), v.maxLength(1024)),
      /** A line of `ssh_host_ed25519_key.pub`. */
      publicKey: v.pipe(v.string(), v.maxLength(256)),
    }),
  ),
})
export type ClientSettings = v.InferOutput<typeof clientSettingsSchema>
