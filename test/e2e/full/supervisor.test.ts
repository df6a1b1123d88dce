/**
 * The supervisor with the kernel's real NBD driver, in User-mode Linux: what must be right for a
 * root that a process serves. The agent of these tests serves a file by our NBD server.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, it, type TestContext } from 'node:test'
import { ensureSupervisor } from '#test/support/supervisor-binary.ts'
import { BACKEND_ID, DISK_BYTES, SUPERVISOR_LOG } from '#test/support/supervisor-guest.ts'
import { UmlMachine } from '#test/support/uml-machine.ts'

/** The longest scenario waits for ten agents, and for the requests of each of those killed. */
const TIMEOUT_MS = 300_000

const SCENARIOS = join(import.meta.dirname, '../../support/supervisor-scenarios.ts')
const RESULT = /^RESULT (?<json>\{.*\})$/m

/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE: what PR_SET_IO_FLUSHER sets. */
const IO_FLUSHER_FLAGS = 0x80000 | 0x100000

interface StorageDaemon {
  readonly name: string
  readonly oomScoreAdj: number
  readonly threadFlags: readonly number[]
  readonly folder: string
}

interface AttachResult {
  readonly sectors: number
  readonly backend: string
  readonly same: boolean
  readonly supervisor: StorageDaemon
  readonly agent: StorageDaemon
  readonly supervisorFiles: readonly string[]
  readonly status: number
  readonly connected: boolean
  readonly sectorsAfter: number
  readonly nextStatus: number
}

interface KillsResult {
  readonly errors: readonly number[]
  readonly longestMs: number
  readonly stalls: readonly { readonly agentMs: number; readonly readMs: number }[]
  readonly same: boolean
  readonly kernel: readonly string[]
  readonly status: number
}

describe('bootwire-supervisor on a real kernel', { timeout: 5 * TIMEOUT_MS }, () => {
  let supervisor: string

  before(async () => {
    supervisor = await ensureSupervisor()
  })

  async function runScenario<Result>(name: string): Promise<Result> {
    await using machine = UmlMachine.start({
      name: `supervisor-${name}`,
      command: [process.execPath, SCENARIOS, name, supervisor],
    })
    const status = await machine.programStatus(TIMEOUT_MS)
    assert.equal(status, 0, machine.console.lastLines())
    return JSON.parse(RESULT.exec(machine.console.text)?.groups?.['json'] ?? '') as Result
  }

  it('attaches and detaches a device, as a storage daemon should', async () => {
    const result = await runScenario<AttachResult>('attach')
    assert.equal(result.sectors, DISK_BYTES / 512)
    assert.equal(result.backend, BACKEND_ID)
    assert.ok(result.same, 'what was written is what the device and the file hold')
    for (const daemon of [result.supervisor, result.agent]) {
      assert.match(daemon.name, /^@/)
      assert.equal(daemon.oomScoreAdj, -1000)
      assert.equal(daemon.folder, '/')
      const without = daemon.threadFlags.filter(
        (flags) => (flags & IO_FLUSHER_FLAGS) !== IO_FLUSHER_FLAGS,
      )
      assert.deepEqual(without, [], `${daemon.name} has threads that are no I/O flushers`)
    }
    // One socket: that of the control line. Neither end of the NBD socket, no file but the log.
    const files = result.supervisorFiles.filter((path) => !path.startsWith('/dev/'))
    assert.deepEqual(files, [SUPERVISOR_LOG, 'anon_inode:[signalfd]', 'socket:'])
    assert.deepEqual([result.status, result.connected, result.sectorsAfter], [0, false, 0])
    assert.equal(result.nextStatus, 0, 'the device can be attached once more')
  })

  it('goes on when all processes are stopped, and when it is asked to end', async () => {
    const result = await runScenario('signals')
    assert.deepEqual(result, { errors: [0], restarts: 0, status: 0 })
  })

  it('loses no request when the agent is killed ten times amid reads and writes', async (test) => {
    const result = await runScenario<KillsResult>('kills')
    report(test, result)
    assert.deepEqual(result.errors, [0, 0])
    assert.deepEqual(result.kernel, [])
    assert.ok(result.same, 'the device reads as the file does')
    assert.equal(result.stalls.length, 10)
    assert.deepEqual(
      result.stalls.filter(({ agentMs, readMs }) => readMs < agentMs / 2),
      [],
      'each read began while there was no agent',
    )
    assert.equal(result.status, 0)
  })

  it('loses no request when the heap of the agent runs over', async () => {
    const result = await runScenario('heap-full')
    assert.deepEqual(result, {
      otherSize: 'error 22 a device is attached with another index or size',
      again: "error 114 this agent's socket is attached, or was",
      errors: [0],
      same: true,
      status: 0,
    })
  })

  it('never gives up while a device is attached, whatever its agents exit with', async () => {
    const result = await runScenario<{ restarts: number; same: boolean; status: number }>(
      'crash-loop',
    )
    assert.ok(result.restarts > 6)
    assert.deepEqual([result.same, result.status], [true, 0])
  })

  it('lets an agent detach what another one attached, and attach anew', async () => {
    const result = await runScenario('detach-first')
    assert.deepEqual(result, { restarts: 1, same: true, status: 0 })
  })

  it('tells an agent whose socket the kernel did not take', async () => {
    const result = await runScenario<{ restarts: number; same: boolean; status: number }>(
      'socket-held',
    )
    assert.ok(result.restarts >= 2)
    assert.deepEqual([result.same, result.status], [true, 0])
  })

  it('says that there is no loaded kernel when told to start it', async () => {
    const { status, said } = await runScenario<{ status: number; said: string }>('kexec-nothing')
    assert.equal(status, 1)
    assert.match(said, /^bootwire-supervisor: the loaded kernel cannot be started: /)
  })
})

function report(test: TestContext, { stalls, longestMs }: KillsResult): void {
  const each = stalls.map(({ agentMs, readMs }) => `${agentMs}/${readMs}`)
  test.diagnostic(
    `from kill to the new agent / to the end of a new read, in ms: ${each.join(', ')}`,
  )
  test.diagnostic(`longest request: ${longestMs} ms`)
}
