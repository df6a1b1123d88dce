/** npm run demo, as a program reads it. */
import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type DemoReport, REPORTED_PHASES } from '#test/demo/demo-report.ts'
import { runProgram } from '#test/support/child-run.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { ensureGptXfsImage } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'

const DEMO = join(import.meta.dirname, '../../demo/demo.sh')

async function runDemo(...args: string[]): Promise<DemoReport> {
  const output = await runProgram('sh', [DEMO, ...args])
  return JSON.parse(output.trimEnd().split('\n').at(-1) ?? '') as DemoReport
}

describe('npm run demo', { timeout: 3 * BOOT_TIMEOUT_MS }, () => {
  it('ends at the login prompt with figures on its last line', async () => {
    const report = await runDemo('--exit', '--json')
    assert.equal(report.ok, true)
    assert.equal(report.login, true)
    assert.match(report.hostname, /^client-\d+$/)
    assert.deepEqual(
      report.phases.map(({ name }) => name).toSorted(),
      Object.keys(REPORTED_PHASES).toSorted(),
    )
    const times = report.phases.map(({ at_s }) => at_s)
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    )
    assert.ok(report.wire_bytes > 0 && report.wire_bytes < report.image_bytes)
    assert.ok(report.agent_rss_bytes > 0)
    assert.ok(report.initramfs_bytes > 0)
  })

  it('boots an image of the user', async () => {
    const image = await ensureGptXfsImage(await ensureRootfs())
    const report = await runDemo('--json', '--disk', image)
    assert.equal(report.login, true)
    assert.equal(report.image_bytes, (await stat(image)).size)
  })

  it('says what is wrong and fails when the image cannot be used', async () => {
    const failing = runDemo('--json', '--disk', '/nowhere.img')
    await assert.rejects(failing, /Cannot use --disk "\/nowhere\.img"/)
  })
})
