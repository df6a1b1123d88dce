/** Amounts as people type them: rates, sizes and shares. Pure. */
import { BootwireError } from '#shared/errors.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1000,
  m: 1000 ** 2,
  g: 1000 ** 3,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
}

const RATE = /^(\d+(?:\.\d+)?) *([kmg]i?|)(b|bit)?(?:\/s)?$/i

/** `5MB/s`, `5M`, `800 KiB/s`, `40Mbit` → bytes per second; `none` and `0` are no limit. */
export function parseRate(text: string): number {
  if (/^(0|none|unlimited)$/i.test(text)) return 0
  const [, amount, unit, kind] = RATE.exec(text.trim()) ?? []
  const factor = UNITS[unit?.toLowerCase() ?? '?']
  const bytes = Math.round((Number(amount) * (factor ?? 0)) / (isBits(kind) ? 8 : 1))
  if (bytes >= 1 && Number.isSafeInteger(bytes)) return bytes
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use "${text}" as a rate: expected something like 5MB/s, 800KiB/s or 40Mbit/s, or none`,
  )
}

/** `4GiB`, `500M` → bytes; `none` and `0` are no limit. */
export function parseSize(text: string): number {
  if (/^(0|none|unlimited)$/i.test(text)) return 0
  const [, amount, unit] = /^(\d+(?:\.\d+)?) *([kmg]i?|)b?$/i.exec(text.trim()) ?? []
  const bytes = Math.round(Number(amount) * (UNITS[unit?.toLowerCase() ?? '?'] ?? 0))
  if (bytes >= 1 && Number.isSafeInteger(bytes)) return bytes
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use "${text}" as a size: expected something like 500MB or 4GiB, or none`,
  )
}

const DURATION_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `90s`, `30m`, `24h`, `7d` → milliseconds. */
export function parseDuration(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?) *([smhd])$/i.exec(text.trim()) ?? []
  const ms = Math.round(Number(amount) * (DURATION_MS[unit?.toLowerCase() ?? '?'] ?? 0))
  if (ms >= 1 && Number.isSafeInteger(ms)) return ms
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use "${text}" as a time: expected something like 30m, 24h or 7d`,
  )
}

function isBits(kind: string | undefined): boolean {
  return kind?.toLowerCase() === 'bit'
}

/** `5%` → 0.05; nothing at all is everything. */
export function parseShare(text: string): number {
  const trimmed = text.trim()
  if (trimmed === '') return 1
  const percent = /^(\d+(?:\.\d+)?) *%$/.exec(trimmed)?.[1]
  if (percent !== undefined && Number(percent) <= 100) return Number(percent) / 100
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use "${text}" as a share: expected a percentage such as 5%`,
  )
}
