/** The links of the benches: every round trip with every bandwidth. */
import { GBIT, MBIT } from './link.ts'

export const ROUND_TRIPS_MS = [0.2, 5, 20, 50] as const
export const BANDWIDTHS = [25 * MBIT, 100 * MBIT, GBIT] as const
