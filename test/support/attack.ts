/** Something that somebody tries, by name. */
export interface Attack {
  readonly name: string
  /**
   * Returns whether it got through. With the guard down, or when he may, it must: else the attempt shows
   * nothing.
   */
  readonly tryWith: (guard: 'up' | 'down') => Promise<boolean>
}
