import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { waitReason } from '#agent/diagnosis/wait-reason.ts'
import type { ConnectionState } from '#agent/session/agent-session.ts'
import { BootwireError } from '#shared/errors.ts'
import { identity } from '#test/support/agent-scripted-server.ts'

const FACTS = { macs: ['52:54:00:00:00:01'] }
const SERVER = { host: '10.0.0.1', port: 8443 }
const UP: ConnectionState = { isUp: true, server: SERVER, sinceMs: 0 }
const PINS = new Set(['server-pin'])
const DOWN: ConnectionState = { isUp: false, server: SERVER, sinceMs: 0 }

describe('waitReason', () => {
  it('is none when the server offers something', () => {
    assert.equal(waitReason(FACTS, UP, identity(), PINS), undefined)
  })

  it('is the connection while there is none, whatever was offered on the last one', () => {
    const connecting = waitReason(FACTS, DOWN, undefined, PINS)
    assert.deepEqual(connecting, {
      facts: FACTS,
      server: { address: '10.0.0.1:8443', isConnected: false },
      matter: 'Connecting to 10.0.0.1:8443',
    })
    const error = new BootwireError('SERVER_UNREACHABLE', 'Cannot reach it')
    const lost = waitReason(FACTS, { ...DOWN, error }, identity(), PINS)
    assert.equal(lost?.matter, error)
    assert.deepEqual(lost?.server, {
      address: '10.0.0.1:8443',
      isConnected: false,
      name: 'server',
    })
    assert.equal(lost?.hostname, 'client-1')
  })

  it('has a code to compare while the server is there and nobody has vouched for the key', () => {
    const waiting = identity({ state: 'pending', offers: [], enrolCode: 'WDJB-MJHT' })
    assert.deepEqual(waitReason(FACTS, UP, waiting, PINS)?.enrol, {
      code: 'WDJB-MJHT',
      serverPins: ['server-pin'],
    })
    assert.equal(waitReason(FACTS, DOWN, waiting, PINS)?.enrol, undefined)
  })

  it('says for each state who must do what, with the command to type', () => {
    const offers = identity().offers
    const cases = [
      ['pending', [], 'CLIENT_PENDING', 'bootwire client approve client-1 --vdisk VDISK'],
      ['refused', offers, 'CLIENT_REFUSED', undefined],
      ['approved', [], 'NOTHING_ASSIGNED', 'bootwire client assign client-1 VDISK'],
    ] as const
    for (const [state, offered, code, command] of cases) {
      const reason = waitReason(FACTS, UP, identity({ state, offers: [...offered] }), PINS)
      assert.ok(reason?.matter instanceof BootwireError)
      assert.equal(reason.matter.code, code)
      assert.equal(reason.advice?.command, command)
      assert.equal(reason.server.isConnected, true)
    }
  })
})
