import { chunkStoreSuite } from '#test/conformance/chunk-store-suite.ts'
import { openTemporaryStore } from '#test/support/store-fixture.ts'

chunkStoreSuite('ContentStore conforms', openTemporaryStore)
