/** A device whose blocks lie in a file, so that the next agent finds what was written to it. */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import type { HotDevice } from '#agent/node-nbd/index.ts'

/** `data` is the path of the file. */
export function openHotDevice(data: unknown): HotDevice {
  const fd = openSync(String(data), 'r+')
  const write = (offsetBytes: number, bytes: Uint8Array) => {
    writeSync(fd, bytes, 0, bytes.length, offsetBytes)
    return true
  }
  const clear = (offsetBytes: number, lengthBytes: number) =>
    write(offsetBytes, new Uint8Array(lengthBytes))
  return {
    read: (offsetBytes, lengthBytes, sink) => {
      sink.appendFile(fd, offsetBytes, lengthBytes)
      return true
    },
    write,
    flush: () => {
      fdatasyncSync(fd)
      return true
    },
    trim: clear,
    writeZeroes: clear,
    extents: (_offsetBytes, lengthBytes) => [{ lengthBytes, zero: false, hole: false }],
    close: () => closeSync(fd),
  }
}
