import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { activeConsolePaths } from '#agent/screen/console-paths.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

it('activeConsolePaths() gives the devices the kernel names', async () => {
  await using folder = await createTemporaryFolder()
  const list = join(folder.path, 'active')
  await writeFile(list, 'tty0 ttyS0\n')
  assert.deepEqual(activeConsolePaths(list), ['/dev/tty0', '/dev/ttyS0'])
  await writeFile(list, '\n')
  assert.deepEqual(activeConsolePaths(list), ['/dev/console'])
  assert.deepEqual(activeConsolePaths(join(folder.path, 'none')), ['/dev/console'])
})
