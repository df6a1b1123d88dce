import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createBootPlanner } from '#server/clients/boot-planner.ts'
import { createTestCore, imageOf, START_MS, type TestCore } from '#test/support/server-core.ts'

const ADDRESS = '192.0.2.1'
const MAC = '52:54:00:00:00:01'
const KERNEL_A = { id: 'aa'.repeat(32), release: '6.1.0' }
const KERNEL_B = { id: 'bb'.repeat(32), release: '6.12.0' }

function plannerOf(core: TestCore) {
  return createBootPlanner({ ...core, now: () => core.clock.nowMs })
}

/** vDisks a (kernel A, oldest), b (kernel B), bare (no kernel). */
async function createCoreWithVDisks(): Promise<TestCore> {
  const core = createTestCore()
  await core.addVDisk('bare')
  core.clock.nowMs += 1
  await core.addVDisk('a', imageOf('a'), KERNEL_A)
  core.clock.nowMs += 1
  await core.addVDisk('b', imageOf('b'), KERNEL_B)
  return core
}

async function planFor(core: TestCore, vdisks: readonly string[], approved = true) {
  const planner = plannerOf(core)
  await planner.planBoot({ mac: MAC }, ADDRESS)
  const client = await core.registry.find(MAC)
  if (approved) await core.registry.approve(client.id)
  if (vdisks.length > 0) await core.registry.assign(client.id, vdisks, { only: true })
  return await planner.planBoot({ mac: MAC }, ADDRESS)
}

describe('planBoot()', () => {
  it("gives a client with one vDisk that vDisk's kernel", async () => {
    const plan = await planFor(await createCoreWithVDisks(), ['b'])
    assert.ok(plan.kind === 'kernel')
    assert.deepEqual([plan.kernel, plan.vdisk], [KERNEL_B, 'b'])
  })

  it('gives the default kernel to clients with several, none, or one without a kernel', async () => {
    for (const vdisks of [['a', 'b'], [], ['bare'], ['gone']]) {
      const plan = await planFor(await createCoreWithVDisks(), vdisks)
      assert.ok(plan.kind === 'kernel')
      assert.deepEqual([plan.kernel, plan.vdisk], [KERNEL_A, undefined], vdisks.join())
    }
  })

  it('registers an unknown machine and gives it the default kernel, to wait in', async () => {
    const core = await createCoreWithVDisks()
    const plan = await planFor(core, ['b'], false)
    assert.ok(plan.kind === 'kernel')
    assert.deepEqual([plan.kernel, plan.vdisk], [KERNEL_A, undefined])
    const [client] = await core.registry.list()
    assert.deepEqual(
      [client?.state, client?.address, client?.facts.macs],
      ['pending', ADDRESS, [MAC]],
    )
  })

  it('begins the record of the boot, which the agent then continues', async () => {
    const core = await createCoreWithVDisks()
    const planner = plannerOf(core)
    const plan = await planner.planBoot({ mac: MAC }, ADDRESS)
    assert.ok(plan.kind === 'kernel' && plan.bootId !== undefined)
    core.clock.nowMs += 700
    planner.stampKernelSent(plan.bootId)
    planner.stampKernelSent('unknown')
    const { id } = await core.registry.find(MAC)
    const boot = await core.boots.resume(id, plan.bootId, 0)
    assert.deepEqual(boot.record.phases, [
      { phase: 'ipxe', atMs: START_MS + 2 },
      { phase: 'kernel', atMs: START_MS + 702 },
    ])
  })

  it('says so when there is no kernel, when the client is refused, and when all is full', async () => {
    const empty = createTestCore()
    const noKernel = await plannerOf(empty).planBoot({ mac: MAC }, ADDRESS)
    assert.ok(noKernel.kind === 'none')
    assert.match(noKernel.reason, /no vDisk with a kernel/)
    assert.deepEqual(await empty.boots.list(), [])
    const strict = createTestCore({ unknownClients: { kind: 'refuse' } })
    const refused = await plannerOf(strict).planBoot({ mac: MAC }, ADDRESS)
    assert.ok(refused.kind === 'none')
    const { id } = await strict.registry.find(MAC)
    assert.match(refused.action, new RegExp(`bootwire client approve ${id}`))
  })

  it('gives a kernel, and no boot id, to a machine that does not say who it is', async () => {
    const core = await createCoreWithVDisks()
    const plan = await plannerOf(core).planBoot({ mac: '', uuid: 'Not Specified' }, ADDRESS)
    assert.deepEqual(plan, { kind: 'kernel', kernel: KERNEL_A })
    assert.deepEqual(await core.registry.list(), [])
  })
})
