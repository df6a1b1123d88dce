/**
 * A fleet of machines, some of them clones, cards that move, boards that are changed, against the one rule that
 * matters: what happens, no two machines have one identity at a time, and who has not changed is known again.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { ClientRegistry } from '#server/clients/client-registry.ts'
import { silentLog } from '#server/log.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

const MACHINES = 6

/** Few values of each, so that they collide. */
const optional = (values: string[]) => fc.option(fc.constantFrom(...values), { nil: undefined })
const action = fc.record({
  kind: fc.constantFrom('boot', 'off', 'change-card', 'change-board', 'confirm', 'approve'),
  machine: fc.nat(MACHINES - 1),
  other: fc.nat(MACHINES - 1),
})
const machine = fc.record({
  uuid: optional(['u1', 'u2']),
  systemSerial: optional(['s1', 's2']),
  boardSerial: optional(['b1']),
})

interface Machine {
  facts: MachineFacts
  /** While it runs. */
  runsAs: string | undefined
  /** What it was known as last, with the facts it had then. */
  last: { id: string; facts: MachineFacts } | undefined
}

it('no two machines that run have one identity, and an unchanged one keeps its own', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(machine, { minLength: MACHINES, maxLength: MACHINES }),
      fc.array(action, { maxLength: 60 }),
      async (made, actions) => {
        const machines: Machine[] = made.map(({ uuid, systemSerial, boardSerial }, index) => ({
          facts: {
            macs: [`52:54:00:00:00:0${index}`],
            ...(uuid !== undefined && { uuid }),
            ...(systemSerial !== undefined && { systemSerial }),
            ...(boardSerial !== undefined && { boardSerial }),
          },
          runsAs: undefined,
          last: undefined,
        }))
        const running = () =>
          machines.flatMap(({ runsAs }) => (runsAs === undefined ? [] : [runsAs]))
        const registry = new ClientRegistry({
          store: new MemoryStateStore(),
          policy: { kind: 'approve' },
          hostnamePattern: 'client-{n}',
          isRunning: (id) => running().includes(id),
          now: () => 0,
          log: silentLog(),
        })
        let nextMac = 10
        for (const { kind, machine: index, other } of actions) {
          const it = machines[index] as Machine
          if (kind === 'off') it.runsAs = undefined
          if (kind === 'change-card') {
            it.runsAs = undefined
            it.facts = { ...it.facts, macs: [`52:54:00:00:01:${nextMac}`] }
            nextMac += 1
            if (nextMac > 99) return
          }
          if (kind === 'change-board') {
            it.runsAs = undefined
            it.facts = { ...it.facts, uuid: `u${index + 10}` }
          }
          if (kind === 'boot' && it.runsAs === undefined) {
            const { client } = await registry.admit(it.facts, '10.0.0.1', undefined)
            assert.equal(running().includes(client.id), false, 'two machines run as one client')
            if (it.last !== undefined && it.last.facts === it.facts) {
              const stillThere = await registry.get(it.last.id)
              if (stillThere !== undefined) assert.equal(client.id, it.last.id, 'forgotten')
            }
            it.runsAs = client.id
            it.last = { id: client.id, facts: it.facts }
          }
          if (kind === 'approve' && it.runsAs !== undefined) await registry.approve(it.runsAs)
          const target = machines[other] as Machine
          if (kind === 'confirm' && it.runsAs !== undefined && target.last !== undefined) {
            if (target.runsAs !== undefined) continue
            const from = it.runsAs
            const confirmed = await registry.confirm(target.last.id, from).catch(() => undefined)
            if (confirmed === undefined) continue
            // It says hello again, as the client it is; the former machine of that is another one now.
            it.runsAs = confirmed.id
            it.last = { id: confirmed.id, facts: it.facts }
            target.last = undefined
            assert.equal(await registry.get(from), undefined)
          }
        }
      },
    ),
    { numRuns: 300 },
  )
})
