/**
 * Turns control messages into bytes and back. The only file that knows msgpackr; nothing that comes
 * out of it is unchecked.
 */
import { Packr } from 'msgpackr'
import * as v from 'valibot'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { FRAME_CONTROL } from './frame.ts'
import { CONTROL_MESSAGE_BYTES_MAX } from './limits.ts'
import {
  type AgentMessage,
  agentMessageSchema,
  type ServerMessage,
  serverMessageSchema,
} from './messages.ts'

/** Enough to recognize a value by. */
const SHOWN_LENGTH_MAX = 200

// Records and structured clones are off: a peer must not be able to name types or build cycles.
const packr = new Packr({
  useRecords: false,
  moreTypes: false,
  structuredClone: false,
  encodeUndefinedAsNil: false,
  int64AsType: 'number',
  mapsAsObjects: true,
})

/** Returns one control frame: the type byte, then the message in msgpack. */
export function encodeMessage(message: AgentMessage | ServerMessage): Uint8Array {
  const body = packr.pack(withoutUndefined(message))
  invariant(body.length <= CONTROL_MESSAGE_BYTES_MAX, `control message of ${body.length} bytes`)
  const frame = new Uint8Array(1 + body.length)
  frame[0] = FRAME_CONTROL
  frame.set(body, 1)
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeAgentMessage(frame: Uint8Array): AgentMessage {
  return decode(agentMessageSchema, frame, 'agent')
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeServerMessage(frame: Uint8Array): ServerMessage {
  return decode(serverMessageSchema, frame, 'server')
}

function decode<Schema extends v.GenericSchema>(
  schema: Schema,
  frame: Uint8Array,
  sender: string,
): v.InferOutput<Schema> {
  if (frame.length > 1 + CONTROL_MESSAGE_BYTES_MAX) {
    throw invalid(
      sender,
      `it has ${frame.length} bytes, at most ${CONTROL_MESSAGE_BYTES_MAX} are allowed`,
    )
  }
  const result = v.safeParse(schema, unpack(frame.subarray(1), sender))
  if (result.success) return result.output
  const issue = result.issues[0]
  throw invalid(sender, `${v.getDotPath(issue) ?? 'message'}: ${shown(issue.message)}`)
}

function unpack(body: Uint8Array, sender: string): unknown {
  try {
    return packr.unpack(body)
  } catch (cause) {
    throw invalid(sender, 'it is not msgpack', cause)
  }
}

/** The schema's words quote what was sent: they go to logs and screens, cut and without controls. */
function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX).replaceAll(/\p{C}/gu, '?')
}

function invalid(sender: string, why: string, cause?: unknown): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot read the ${sender}'s message: ${why}`, {
    cause,
  })
}

function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .map(([key, field]) => [key, withoutUndefined(field)]),
  )
}
