/** What administrators may do, least first: each may also do all that those before it may. */
export const ROLES = ['viewer', 'operator', 'administrator', 'owner'] as const
export type Role = (typeof ROLES)[number]

/** Those that can be given away. The owner is whoever may open the socket on the server itself. */
export const TOKEN_ROLES = ['viewer', 'operator', 'administrator'] as const
export type TokenRole = (typeof TOKEN_ROLES)[number]

export function mayActAs(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed)
}

/** Who asks for something. */
export interface Caller {
  /** `local:root`, or the name that goes with the token. */
  readonly name: string
  readonly role: Role
  /** Absent on the server itself. */
  readonly address?: string
}
