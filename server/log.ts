/**
 * The server's log on stderr: one line for a person per event, or JSON for a machine. Only here is
 * it known that pino writes it.
 */
import { type DestinationStream, type Logger, pino } from 'pino'
import { printable } from './printable.ts'

export type Log = Logger

export interface LogOptions {
  readonly json: boolean
  readonly level: string
}

/** Keys pino adds to every line, which the human form shows elsewhere or not at all. */
const OWN_KEYS = new Set(['level', 'time', 'msg'])

export function createLog(options: LogOptions, write: (line: string) => void): Log {
  const destination: DestinationStream = {
    write: options.json ? write : (line) => write(humanLine(line)),
  }
  return pino({ level: options.level, base: null }, destination)
}

/** Writes nowhere. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}

/**
 * Writes to `log`, of what strangers can cause (info and warnings) at most so many lines in a window of time; the
 * next window says how many were left out.
 */
export function boundedLog(
  log: Log,
  { linesMax, windowMs }: { readonly linesMax: number; readonly windowMs: number },
  now: () => number = () => performance.now(),
): Log {
  const bounded = log.child({})
  let startedMs = -Infinity
  let lines = 0
  const admits = (): boolean => {
    if (now() - startedMs >= windowMs) {
      if (lines > linesMax) log.warn({ lines: lines - linesMax }, 'lines were left out of the log')
      startedMs = now()
      lines = 0
    }
    lines += 1
    return lines <= linesMax
  }
  for (const level of ['info', 'warn'] as const) {
    bounded[level] = (...what: unknown[]) => {
      if (admits()) Reflect.apply(log[level], log, what)
    }
  }
  return bounded
}

function humanLine(line: string): string {
  const fields = JSON.parse(line) as Record<string, unknown>
  const time = new Date(fields['time'] as number).toISOString()
  const level = pino.levels.labels[fields['level'] as number] ?? 'info'
  const rest = Object.entries(fields)
    .filter(([key]) => !OWN_KEYS.has(key))
    .map(([key, value]) => ` ${key}=${humanValue(value)}`)
  return `${time} ${level.padEnd(5)} ${printable((fields['msg'] ?? '') as string)}${rest.join('')}\n`
}

function humanValue(value: unknown): string {
  if (typeof value === 'object' && value !== null && 'stack' in value) {
    return String(value.stack).split('\n').map(printable).join('\n')
  }
  if (typeof value === 'string' && /^[\w.:/@+-]+$/.test(value)) return value
  return printable(JSON.stringify(value))
}
