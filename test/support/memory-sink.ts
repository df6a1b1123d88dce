/** A reply sink that keeps what it is given, and counts how it was given. */
import assert from 'node:assert/strict'
import { readSync } from 'node:fs'
import type { ReplySink } from '#agent/node-nbd/block-device.ts'

export class MemorySink implements ReplySink {
  readonly #parts: Buffer[] = []
  /** What was called, in order: `part`, `zeros`, `file`, `bytes`, with the length. */
  readonly calls: string[] = []

  append(bytes: Uint8Array): void {
    this.#add('bytes', Buffer.from(bytes))
  }

  appendPart(memory: Buffer, offset: number, length: number): void {
    assert.ok(offset + length <= memory.length, 'the part lies in the memory')
    this.#add('part', Buffer.from(memory.subarray(offset, offset + length)))
  }

  appendZeros(lengthBytes: number): void {
    this.#add('zeros', Buffer.alloc(lengthBytes))
  }

  appendFile(fd: number, offsetBytes: number, lengthBytes: number): void {
    const bytes = Buffer.alloc(lengthBytes)
    assert.equal(readSync(fd, bytes, 0, lengthBytes, offsetBytes), lengthBytes)
    this.#add('file', bytes)
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }

  #add(call: string, bytes: Buffer): void {
    this.calls.push(`${call} ${bytes.length}`)
    this.#parts.push(bytes)
  }
}
