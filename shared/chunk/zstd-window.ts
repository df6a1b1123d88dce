/**
 * How much memory a zstd frame asks its decoder to keep, as its header says (RFC 8878 §3.1.1.1).
 * Looked at by us, since Node's decoder forgets its limit whenever it is reset.
 */
const MAGIC = 0xfd2f_b528
const DESCRIPTOR_AT = 4
const SINGLE_SEGMENT_BIT = 0x20
/** By the lowest and the highest two bits of the descriptor. */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const
const CONTENT_SIZE_BYTES = [1, 2, 4, 8] as const

/** Returns 0 where no frame begins: what is there the decoder refuses, or passes over. */
export function zstdWindowBytes(bytes: Uint8Array, begin: number): number {
  const left = bytes.length - begin
  if (left <= DESCRIPTOR_AT + 1) return 0
  const view = new DataView(bytes.buffer, bytes.byteOffset + begin, left)
  if (view.getUint32(0, true) !== MAGIC) return 0
  const descriptor = view.getUint8(DESCRIPTOR_AT)
  if ((descriptor & SINGLE_SEGMENT_BIT) !== 0) return contentBytes(view, descriptor)
  const window = view.getUint8(DESCRIPTOR_AT + 1)
  const base = 2 ** (10 + (window >>> 3))
  return base + (base / 8) * (window & 7)
}

/** A frame of one segment is its own window. */
function contentBytes(view: DataView, descriptor: number): number {
  const at = DESCRIPTOR_AT + 1 + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0)
  const length = CONTENT_SIZE_BYTES[descriptor >>> 6] ?? 0
  if (view.byteLength < at + length) return 0
  let size = 0
  for (let byte = length - 1; byte >= 0; byte -= 1) size = size * 256 + view.getUint8(at + byte)
  return length === 2 ? size + 256 : size
}
