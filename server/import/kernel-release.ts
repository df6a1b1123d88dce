/** The order of kernel releases: which of two is newer. */

/** Sorts numbers by value and `-rc1` before the release it leads to, as `sort --version-sort`. */
export function compareReleases(a: string, b: string): number {
  const [left, right] = [partsOf(a), partsOf(b)]
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const order = compareParts(left[index], right[index])
    if (order !== 0) return order
  }
  return 0
}

function partsOf(release: string): string[] {
  return release.match(/[0-9]+|[A-Za-z]+/g) ?? []
}

function compareParts(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0
  return rank(a) - rank(b) || Number(a) - Number(b) || (String(a) < String(b) ? -1 : 1)
}

/** A release candidate is older than the end of the name, which is older than words and numbers. */
function rank(part: string | undefined): number {
  if (part === 'rc') return 0
  if (part === undefined) return 1
  return /^[0-9]/.test(part) ? 3 : 2
}
