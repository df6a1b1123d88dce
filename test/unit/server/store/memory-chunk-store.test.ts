import { chunkStoreSuite } from '#test/conformance/chunk-store-suite.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'

chunkStoreSuite('MemoryChunkStore conforms', async () => {
  const store = new MemoryChunkStore()
  return { store, [Symbol.asyncDispose]: () => store.close() }
})
