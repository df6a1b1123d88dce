/** What a connection must know of its export, beside the device itself. */
import type { Export } from './block-device.ts'
import { TRANSMISSION_FLAG } from './protocol.ts'

export interface ExportFacts {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly minimumBlockBytes: number
  readonly maximumBlockBytes: number
  readonly fastZeroes: boolean
}

/** What was negotiated; nothing at all on a descriptor that comes without a handshake. */
export interface Negotiated {
  readonly structuredReplies: boolean
  /** Whether `base:allocation` was asked for. */
  readonly baseAllocation: boolean
}

export const NOTHING_NEGOTIATED: Negotiated = { structuredReplies: false, baseAllocation: false }

export function exportFacts(it: Export): ExportFacts {
  const { sizeBytes, readOnly, minimumBlockBytes, maximumBlockBytes } = it
  const fastZeroes = it.fastZeroes ?? false
  return { sizeBytes, readOnly, minimumBlockBytes, maximumBlockBytes, fastZeroes }
}

/** The transmission flags that tell a client what it may ask for. */
export function transmissionFlags(facts: ExportFacts, structuredReplies: boolean): number {
  const is = TRANSMISSION_FLAG
  const any = is.hasFlags | is.sendFlush | is.canMultiConn | is.sendCache
  const write = is.sendFua | is.sendTrim | is.sendWriteZeroes
  return (
    any |
    (facts.readOnly ? is.readOnly : write) |
    (facts.fastZeroes && !facts.readOnly ? is.sendFastZero : 0) |
    (structuredReplies ? is.sendDf : 0)
  )
}

/** The flags to attach the kernel's client with (NBD_ATTR_SERVER_FLAGS): it negotiates nothing. */
export function kernelFlags(it: Export): number {
  return transmissionFlags(exportFacts(it), false)
}
