/** Why a connection is closed, as websocket close codes (RFC 6455 §7.4). */
export const CLOSE_CODE = {
  normal: 1000,
  /** The server stops; the agent comes back to this or another one. */
  goingAway: 1001,
  protocolError: 1002,
  tooBig: 1009,
  internalError: 1011,
  /** Connect again: what the server knows of this client changed. */
  serviceRestart: 1012,
  tryAgainLater: 1013,
  /** Another connection of the same client took over. */
  superseded: 4000,
} as const

export type CloseCode = (typeof CLOSE_CODE)[keyof typeof CLOSE_CODE]

/** A close frame holds 125 bytes, two of them for the code (RFC 6455 §5.5). */
const CLOSE_REASON_BYTES_MAX = 123

/** Cuts a reason to what a close frame holds, never inside a character. */
export function closeReason(text: string): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= CLOSE_REASON_BYTES_MAX) return text
  let end = CLOSE_REASON_BYTES_MAX
  // Bytes 10xxxxxx continue a character (RFC 3629 §3).
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.toString('utf8', 0, end)
}
