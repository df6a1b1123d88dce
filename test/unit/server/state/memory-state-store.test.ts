import { describe } from 'node:test'
import { testStateStore } from '#test/conformance/state-store-suite.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

// The tests of the registry, the catalog and the boot log stand on this one.
describe('MemoryStateStore', () => {
  testStateStore({ open: async () => new MemoryStateStore() })
})
