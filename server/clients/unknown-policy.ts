/** What happens to a machine nobody has decided about: `--unknown-clients`. */

import type { ClientState } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'
import { isVDiskName } from '#shared/names.ts'

/**
 * `refuse`: recorded and turned away. `approve`: recorded, and waits for the administrator's
 * approval. `vdisk`: admitted, and gets this vDisk.
 */
export type UnknownPolicy =
  | { readonly kind: 'refuse' }
  | { readonly kind: 'approve' }
  | { readonly kind: 'vdisk'; readonly vdisk: string }

/** How a machine enters, as long as nobody has decided about it. */
export interface Admission {
  readonly state: ClientState
  readonly assignments: readonly string[]
}

const VDISK_PREFIX = 'vdisk:'

/** @throws {BootwireError} INVALID_ARGUMENT */
export function parseUnknownPolicy(text: string): UnknownPolicy {
  if (text === 'refuse' || text === 'approve') return { kind: text }
  const vdisk = text.startsWith(VDISK_PREFIX) ? text.slice(VDISK_PREFIX.length) : ''
  if (isVDiskName(vdisk)) return { kind: 'vdisk', vdisk }
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use --unknown-clients "${text}": expected "refuse", "approve" or "vdisk:NAME"`,
  )
}

export function formatUnknownPolicy(policy: UnknownPolicy): string {
  return policy.kind === 'vdisk' ? VDISK_PREFIX + policy.vdisk : policy.kind
}

export function admissionOf(policy: UnknownPolicy): Admission {
  switch (policy.kind) {
    case 'refuse':
      return { state: 'refused', assignments: [] }
    case 'approve':
      return { state: 'pending', assignments: [] }
    case 'vdisk':
      return { state: 'approved', assignments: [policy.vdisk] }
  }
}
