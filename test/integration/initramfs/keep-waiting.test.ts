/** What the initramfs leaves in /run so that a system whose disk waits is left in peace. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { filesInRun } from '#test/support/run-folder-files.ts'

it('keep-waiting.sh takes the triggers out of all watchdogs', async () => {
  assert.deepEqual(await filesInRun('keep-waiting.sh'), {
    'sysctl.d/zz-bootwire.conf': 'kernel.hung_task_panic = 0\n',
    'systemd/system.conf.d/zz-bootwire.conf': '[Manager]\nRuntimeWatchdogSec=0\n',
    'systemd/system/service.d/bootwire.conf': '[Service]\nWatchdogSec=0\n',
  })
})
