/**
 * A process that serves descriptor 3 the way the agent does the kernel's: a device of which each odd
 * block of 4 KiB is cold. Prints how the connection ended, as JSON. Workers and hot module are those
 * of the arguments, when there are any: TRANSMISSION REPLY HOT.
 */
import { setTimeout } from 'node:timers/promises'
import { serveDescriptor } from '#agent/node-nbd/index.ts'
import { createMemoryDevice, DEVICE_BLOCK_BYTES } from '#test/support/nbd-memory-device.ts'

const SIZE_BYTES = 4 * 1024 * 1024

const data = createMemoryDevice(SIZE_BYTES)
const memory = new Uint8Array(data.memory)
for (let at = 0; at < SIZE_BYTES; at += 1) memory[at] = (at * 7 + Math.floor(at / 4096)) & 0xff
new Uint8Array(data.absent).forEach((_, block, all) => {
  all[block] = block % 2
})

const [transmission, reply, hotModule] = process.argv.slice(2)
const connection = serveDescriptor({
  fd: 3,
  export: {
    name: 'test',
    description: '',
    sizeBytes: SIZE_BYTES,
    readOnly: false,
    minimumBlockBytes: 512,
    preferredBlockBytes: 4096,
    maximumBlockBytes: 1024 * 1024,
    hot: {
      moduleUrl: hotModule ?? new URL('./nbd-memory-device.ts', import.meta.url).href,
      data,
    },
    cold: {
      read: async (offset, target) => {
        // The last block is never answered.
        if (offset + target.length > SIZE_BYTES - DEVICE_BLOCK_BYTES) await new Promise(() => {})
        await setTimeout(1)
        target.set(memory.subarray(offset, offset + target.length))
      },
      write: async (offset, bytes) => memory.set(bytes, offset),
      flush: async () => {},
      trim: async () => {},
      writeZeroes: async () => {},
    },
  },
  ...(transmission !== undefined && reply !== undefined && { workers: { transmission, reply } }),
})
process.on('message', () => void connection.close())
// No await: this file is also bundled as CommonJS.
void connection.closed.then((end) => {
  const counts = [...new Int32Array(data.counts)]
  process.stdout.write(`${JSON.stringify({ end: String(end), counts })}\n`)
  process.disconnect?.()
})
