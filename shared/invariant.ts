/** Throws when the program itself is wrong. Never for input: that is a `BootwireError`. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`)
}
