import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { watchServer } from '#agent/boot/watch-server.ts'
import { eventually } from '#test/support/eventually.ts'

const LIMITS = { lookMs: 2, silentMs: 10, giveUpMs: 40 }

function watched() {
  const gaveUp: string[] = []
  const session = {
    isOpen: true,
    connection: { isUp: true, server: { host: '192.0.2.10', port: 8443 }, sinceMs: 0 },
    changed: () => new Promise<void>(() => undefined),
    wireBytesReceived: 1000,
    giveUp: (why: string) => {
      gaveUp.push(why)
      session.isOpen = false
    },
  }
  const vdisk = { runsAlone: false, longestWaitMs: 0 }
  const consoles = { announce: () => undefined }
  return { gaveUp, session, vdisk, watch: () => watchServer({ session, vdisk, consoles }, LIMITS) }
}

describe('watchServer', () => {
  it('gives a server up that answers and sends nothing while a read waits', async () => {
    const { gaveUp, vdisk, watch } = watched()
    using _ = watch()
    vdisk.longestWaitMs = 60_000
    await eventually('it is given up', () => gaveUp.length > 0)
    assert.match(gaveUp[0] ?? '', /has sent nothing for/)
    await sleep(2 * LIMITS.giveUpMs)
    assert.equal(gaveUp.length, 1, 'not while there is no connection')
  })

  it('leaves a server alone that nobody waits for, or that sends', async () => {
    const { gaveUp, session, vdisk, watch } = watched()
    using _ = watch()
    await sleep(2 * LIMITS.giveUpMs)
    vdisk.longestWaitMs = 60_000
    for (let round = 0; round < 20; round += 1) {
      session.wireBytesReceived += 1
      await sleep(LIMITS.giveUpMs / 10)
    }
    assert.deepEqual(gaveUp, [])
  })

  it('counts from the moment a connection is open', async () => {
    const { gaveUp, session, vdisk, watch } = watched()
    session.isOpen = false
    vdisk.longestWaitMs = 60_000
    using _ = watch()
    await sleep(2 * LIMITS.giveUpMs)
    assert.deepEqual(gaveUp, [])
    const openedMs = performance.now()
    session.isOpen = true
    await eventually('it is given up', () => gaveUp.length > 0)
    assert.ok(performance.now() - openedMs >= LIMITS.giveUpMs - LIMITS.lookMs)
  })
})
