/** A frame of objects, put together as a server does it. */
import {
  OBJECT_HEADER_BYTES,
  OBJECTS_HEADER_BYTES,
  type ObjectHeader,
  writeObjectHeader,
  writeObjectsHeader,
} from '#shared/wire/frame.ts'

export interface FramedObject {
  readonly header: ObjectHeader
  readonly payload: Uint8Array
}

export function objectsFrame(objects: readonly FramedObject[]): Uint8Array {
  const lengths = objects.map(({ payload }) => OBJECT_HEADER_BYTES + payload.length)
  const frame = new Uint8Array(lengths.reduce((sum, it) => sum + it, OBJECTS_HEADER_BYTES))
  writeObjectsHeader(frame, objects.length)
  let at = OBJECTS_HEADER_BYTES
  for (const { header, payload } of objects) {
    writeObjectHeader(frame, at, header)
    frame.set(payload, at + OBJECT_HEADER_BYTES)
    at += OBJECT_HEADER_BYTES + payload.length
  }
  return frame
}
