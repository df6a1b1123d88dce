import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { watchGoingDown } from '#agent/boot/going-down.ts'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMES = { lookMs: 2, patienceMs: 30, patienceKeptMs: 200 }

async function watched() {
  const temporary = await createTemporaryFolder()
  const runFolder = new RunFolder(temporary.path)
  const session = { isOpen: true }
  const called: string[] = []
  const vdisk = {
    isKept: false,
    runsAlone: false,
    writesWaiting: 0,
    goDown: () => void called.push('goDown'),
    failWaiting: () => void called.push('failWaiting'),
  }
  const watch = watchGoingDown({ runFolder, session, vdisk, times: TIMES })
  return {
    runFolder,
    session,
    vdisk,
    called,
    async [Symbol.asyncDispose]() {
      watch[Symbol.dispose]()
      await temporary[Symbol.asyncDispose]()
    },
  }
}

describe('watchGoingDown', () => {
  it('does nothing while the system runs, whatever it waits for', async () => {
    await using fixture = await watched()
    fixture.session.isOpen = false
    fixture.vdisk.writesWaiting = 3
    await sleep(3 * TIMES.patienceMs)
    assert.deepEqual(fixture.called, [])
  })

  it('opens the reserve when the system goes down, and fails nothing that comes forward', async () => {
    await using fixture = await watched()
    fixture.runFolder.write('stopping', '')
    await eventually('the reserve is open', () => fixture.called.length > 0)
    await sleep(3 * TIMES.patienceMs)
    assert.deepEqual(fixture.called, ['goDown'])
  })

  for (const [what, stick] of [
    ['a server', { isOpen: false, writesWaiting: 0 }],
    ['room', { isOpen: true, writesWaiting: 1 }],
  ] as const) {
    it(`fails what waits for ${what} after a while`, async () => {
      await using fixture = await watched()
      fixture.session.isOpen = stick.isOpen
      fixture.vdisk.writesWaiting = stick.writesWaiting
      fixture.runFolder.write('stopping', '')
      await eventually('it fails', () => fixture.called.includes('failWaiting'))
    })
  }

  it('waits longer for what is kept, and for no server where all of it is local', async () => {
    await using fixture = await watched()
    fixture.session.isOpen = false
    Object.assign(fixture.vdisk, { runsAlone: true })
    fixture.runFolder.write('stopping', '')
    await sleep(3 * TIMES.patienceMs)
    Object.assign(fixture.vdisk, { runsAlone: false, isKept: true })
    await sleep(3 * TIMES.patienceMs)
    assert.deepEqual(fixture.called, ['goDown'])
    await eventually('it fails', () => fixture.called.includes('failWaiting'))
  })
})
