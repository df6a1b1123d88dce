/** What every bench says at its end: its goals, and with --json one JSON object on the last line. */

export interface Goal {
  readonly name: string
  readonly value: number
  readonly goal: string
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

export function reportGoals(bench: string, goals: readonly Goal[], rows: readonly unknown[]): void {
  say('')
  for (const { name, value, goal } of goals) say(`${name} ${value}, goal ${goal}`)
  if (process.argv.includes('--json')) say(JSON.stringify({ bench, goals, rows }))
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN
  return sorted.length % 2 === 1 ? low : (low + (sorted[middle] ?? Number.NaN)) / 2
}
