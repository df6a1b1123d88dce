/** Numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md). All integers are big-endian. */

/** The magic numbers as two 32-bit halves, so that no BigInt is needed on the way of a request. */
export const SERVER_MAGIC = [0x4e42444d, 0x41474943] as const // "NBDMAGIC"
export const OPTION_MAGIC = [0x49484156, 0x454f5054] as const // "IHAVEOPT"
export const OPTION_REPLY_MAGIC = [0x0003e889, 0x045565a9] as const
export const REQUEST_MAGIC = 0x25609513
export const SIMPLE_REPLY_MAGIC = 0x67446698
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef

export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const
export const CLIENT_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const

export const REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorUnknown: 0x80000006,
  errorTooBig: 0x80000009,
} as const

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const

export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const

export const CHUNK_FLAG_DONE = 1
export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
} as const

/** The one metadata context there is, and its number on every connection. */
export const BASE_ALLOCATION = 'base:allocation'
export const BASE_ALLOCATION_ID = 1
export const EXTENT_FLAG = { hole: 1, zero: 2 } as const

export const REQUEST_BYTES = 28
export const SIMPLE_REPLY_BYTES = 16

/** Longest string the protocol allows. */
export const STRING_BYTES_MAX = 4096
