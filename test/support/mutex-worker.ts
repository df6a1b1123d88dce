/** Counts up a word without atomics, under a lock that several such workers share. */
import { workerData } from 'node:worker_threads'
import { SharedMutex } from '#agent/node-nbd/shared-mutex.ts'

const { memory, rounds } = workerData as {
  readonly memory: SharedArrayBuffer
  readonly rounds: number
}
const words = new Int32Array(memory)
const mutex = new SharedMutex(words, 0)
// All begin together.
Atomics.add(words, 2, 1)
Atomics.notify(words, 2)
Atomics.wait(words, 3, 0)
for (let round = 0; round < rounds; round += 1) {
  mutex.lock()
  const before = words[1] ?? 0
  // Long enough that another would come between without a lock.
  for (let spin = 0; spin < 50; spin += 1) Atomics.load(words, 4)
  words[1] = before + 1
  mutex.unlock()
}
