/** What is found in an image that its machines should not share. */

/**
 * `secret`: whoever can boot the vDisk, or read the store, has it. `identity`: should be another on
 * every machine. `hint`: may be as it is meant.
 */
export const SEVERITIES = ['secret', 'identity', 'hint'] as const
export type Severity = (typeof SEVERITIES)[number]

/** Where something was found; never the secret itself. */
export interface LintPlace {
  /** Absolute in the image, without control characters, cut when it is long. */
  readonly path: string
  /** Which of it, such as the names of accounts. */
  readonly detail?: string
}

/** Everything of one kind. */
export interface LintFinding {
  /** Stable, for programs: `ssh-host-key`. */
  readonly kind: string
  readonly severity: Severity
  /** What it is and why it matters. */
  readonly what: string
  /** What to do about it. */
  readonly action: string
  /** By path; at least one. */
  readonly places: readonly LintPlace[]
  /** Further places, which are not listed. */
  readonly more: number
}

export interface LintReport {
  /** One of a kind; secrets first, else in the order of the rules. */
  readonly findings: readonly LintFinding[]
  /** Sentences about what was not looked at; none when everything was. */
  readonly incomplete: readonly string[]
}

export function placeCount({ places, more }: LintFinding): number {
  return places.length + more
}

export function hasSecrets({ findings }: LintReport): boolean {
  return findings.some(({ severity }) => severity === 'secret')
}
