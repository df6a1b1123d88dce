/** Begins a version in the store of the folder it is given, says so, and never ends: to be killed. */
import { MiB } from '#shared/units.ts'
import { openStore } from './store-fixture.ts'

const store = await openStore(process.argv[2] ?? '')
const writer = await store.createVersion()
const bytes = new Uint8Array(MiB)
for (let count = 1; ; count += 1) {
  crypto.getRandomValues(bytes.subarray(0, 65_536))
  await writer.append(bytes)
  if (count === 160) process.stdout.write('writing\n')
}
