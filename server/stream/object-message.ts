/**
 * One object as one websocket message, written by the server itself: header of the websocket (RFC 6455
 * §5.2: binary, whole, unmasked), of the frame, of the object (PROTOCOL.md §2), then its payload.
 *
 * Messages made so lie behind one another in memory and are handed to the socket by one write, which
 * is what costs; an object is of use to the agent as soon as its own bytes are there.
 */
import {
  OBJECT_HEADER_BYTES,
  OBJECTS_HEADER_BYTES,
  type ObjectHeader,
  writeObjectHeader,
  writeObjectsHeader,
} from '#shared/wire/frame.ts'

const FRAME_BYTES = OBJECTS_HEADER_BYTES + OBJECT_HEADER_BYTES

/** FIN and opcode 2. */
const WHOLE_BINARY = 0x82
const LENGTH_7_MAX = 125
const LENGTH_16 = 126
const LENGTH_16_MAX = 0xff_ff
const LENGTH_64 = 127

/** Room that is enough for what stands before any payload. */
export const MESSAGE_HEADER_BYTES_MAX: number = 10 + FRAME_BYTES

/** Bytes before the payload of an object. */
export function messageHeaderBytes(storedBytes: number): number {
  return websocketHeaderBytes(FRAME_BYTES + storedBytes) + FRAME_BYTES
}

/** Bytes of a whole message. */
export function messageBytes(storedBytes: number): number {
  return messageHeaderBytes(storedBytes) + storedBytes
}

/** Writes what stands before a payload so that it ends at `payloadAt`; returns where it begins. */
export function writeMessageHeader(
  target: Uint8Array,
  payloadAt: number,
  header: ObjectHeader,
): number {
  const frameAt = payloadAt - FRAME_BYTES
  writeObjectsHeader(target.subarray(frameAt), 1)
  writeObjectHeader(target, frameAt + OBJECTS_HEADER_BYTES, header)
  const frameBytes = FRAME_BYTES + header.storedBytes
  const begin = frameAt - websocketHeaderBytes(frameBytes)
  writeWebsocketHeader(target, begin, frameBytes)
  return begin
}

/** A message about an object that has no payload to send. */
export function messageWithoutPayload(header: Omit<ObjectHeader, 'storedBytes'>): Uint8Array {
  const message = new Uint8Array(messageHeaderBytes(0))
  writeMessageHeader(message, message.length, { ...header, storedBytes: 0 })
  return message
}

/** A frame of another kind as a websocket message. */
export function messageOf(frame: Uint8Array): Uint8Array {
  const headerBytes = websocketHeaderBytes(frame.length)
  const message = new Uint8Array(headerBytes + frame.length)
  writeWebsocketHeader(message, 0, frame.length)
  message.set(frame, headerBytes)
  return message
}

function websocketHeaderBytes(payloadBytes: number): number {
  if (payloadBytes <= LENGTH_7_MAX) return 2
  return payloadBytes <= LENGTH_16_MAX ? 4 : 10
}

function writeWebsocketHeader(target: Uint8Array, at: number, payloadBytes: number): void {
  target[at] = WHOLE_BINARY
  if (payloadBytes <= LENGTH_7_MAX) {
    target[at + 1] = payloadBytes
    return
  }
  const view = new DataView(target.buffer, target.byteOffset + at)
  if (payloadBytes <= LENGTH_16_MAX) {
    target[at + 1] = LENGTH_16
    view.setUint16(2, payloadBytes)
    return
  }
  target[at + 1] = LENGTH_64
  view.setUint32(2, 0)
  view.setUint32(6, payloadBytes)
}
