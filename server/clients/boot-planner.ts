/** Decides what a machine that asks for a boot script gets, and begins the record of its boot. */

import type { BootFacts, BootPlan, BootPlanner } from '#server/boot/boot-plan.ts'
import type { ClientRecord, KernelRecord } from '#server/state/records.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import { BootwireError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import type { BootLog } from './boot-log.ts'
import { factsFromBoot, isAnonymous } from './client-matching.ts'
import type { ClientRegistry } from './client-registry.ts'
import { versionToBoot } from './version-to-boot.ts'

export interface BootPlannerServices {
  readonly registry: Pick<ClientRegistry, 'identify' | 'isUnsure'>
  readonly catalog: Pick<VDiskCatalog, 'tryGet' | 'defaultKernel'>
  readonly boots: Pick<BootLog, 'begin' | 'findRunning'>
  readonly now: () => number
}

interface ChosenKernel {
  readonly kernel: KernelRecord
  readonly vdisk?: string
}

export function createBootPlanner(services: BootPlannerServices): BootPlanner {
  return {
    planBoot: (facts, address) => planBoot(services, facts, address),
    stampKernelSent: (bootId) =>
      services.boots.findRunning(bootId)?.stamp('kernel', services.now()),
  }
}

async function planBoot(
  services: BootPlannerServices,
  bootFacts: BootFacts,
  address: string,
): Promise<BootPlan> {
  const facts = factsFromBoot(bootFacts)
  // Nobody can be recorded under nothing; the agent will know more of its machine.
  if (isAnonymous(facts)) return await planAnonymous(services)
  if (await services.registry.isUnsure(facts)) return await planAnonymous(services)
  const client = await identify(services, facts, address)
  if ('kind' in client) return client
  if (client.state === 'refused') {
    return {
      kind: 'none',
      reason: 'This server does not admit this machine',
      action: `Admit it on the server: bootwire client approve ${client.id}`,
    }
  }
  const chosen = await chooseKernel(services, client)
  if (chosen === undefined) return NO_KERNEL
  const boot = await services.boots.begin(client.id)
  boot.stamp('ipxe', services.now())
  return { kind: 'kernel', bootId: boot.record.bootId, ...chosen }
}

async function identify(
  { registry }: BootPlannerServices,
  facts: MachineFacts,
  address: string,
): Promise<ClientRecord | BootPlan> {
  try {
    return await registry.identify(facts, address)
  } catch (error) {
    if (!(error instanceof BootwireError)) throw error
    return { kind: 'none', reason: error.message, action: error.action }
  }
}

async function planAnonymous({ catalog }: BootPlannerServices): Promise<BootPlan> {
  const kernel = await catalog.defaultKernel()
  return kernel === undefined ? NO_KERNEL : { kind: 'kernel', kernel }
}

/** The kernel of the client's vDisk when there is exactly one, which saves the kexec; else any. */
async function chooseKernel(
  { catalog }: BootPlannerServices,
  client: ClientRecord,
): Promise<ChosenKernel | undefined> {
  const [vdisk, ...others] = client.state === 'approved' ? client.assignments : []
  if (vdisk !== undefined && others.length === 0) {
    const kernel = (await versionToBoot(client, vdisk, catalog))?.kernel
    if (kernel !== undefined) return { kernel, vdisk }
  }
  const kernel = await catalog.defaultKernel()
  return kernel && { kernel }
}

const NO_KERNEL: BootPlan = {
  kind: 'none',
  reason: 'This server has no vDisk with a kernel yet',
  action: 'Import one on the server: bootwire vdisk import FILE',
}
