/** Caches on the disks and partitions of a real kernel (test/support/cache-guest.ts). */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { MiB } from '#shared/units.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { UmlMachine } from '#test/support/uml-machine.ts'

const GUEST = join(import.meta.dirname, '../../support/cache-guest.ts')
const STEP_MS = 60_000

/** What the guest says, in this order. */
const STEPS: readonly RegExp[] = [
  /empty disk: ok \/tmp\/dev\/ubda1 is a cache of 298\.0 MiB now/,
  /table: ok/,
  /again: status 1 BW-E412 Cannot use \/tmp\/dev\/ubda: it holds a partition table/,
  /the agent: \/tmp\/dev\/ubda1/,
  /in use: status 1 BW-E413 Cannot use \/tmp\/dev\/ubda1: it is in use/,
  /shown: ok device: +\/tmp\/dev\/ubda1/,
  /the agent: \/tmp\/dev\/ubda1/,
  /kept: 50 of 50/,
  /file system: status 1 BW-E412 .*it holds an ext file system/,
  /mounted: status 1 BW-E413 .*it is mounted on \/tmp\/mounted/,
  /forced: ok \/tmp\/dev\/ubda1 is a cache of 298\.0 MiB now/,
  /table: ok/,
  /the agent: \/tmp\/dev\/ubda1/,
  /both: ok \/tmp\/dev\/ubda1 is a write area of 75\.0 MiB now/,
  /table: ok/,
  /the agent: \/tmp\/dev\/ubda2/,
  /write area: \/tmp\/dev\/ubda1 67108864/,
  /shown: ok 64\.0 MiB free/,
  /made anew: ok \/tmp\/dev\/ubda1 is a write area of 75\.0 MiB now/,
]

describe('a disk of a real kernel', { timeout: 3 * STEP_MS }, () => {
  it('becomes a cache when it is empty or forced, is found, used, and guarded', async () => {
    await using temporary = await createTemporaryFolder()
    const diskPath = join(temporary.path, 'disk')
    await using file = await open(diskPath, 'w')
    await file.truncate(300 * MiB)
    const command = [process.execPath, '--disable-warning=ExperimentalWarning', GUEST]
    await using machine = UmlMachine.start({ name: 'prepare-device', command, diskPath })
    for (const step of STEPS) await machine.console.expect(step, { timeoutMs: STEP_MS })
  })
})
