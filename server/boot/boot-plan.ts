/**
 * What the boot script says, decided by the registry of clients and rendered by `boot-http.ts`. The
 * two sides meet only here.
 */
import type { KernelRecord } from '#server/state/records.ts'

/** What iPXE reports of a machine; every field as it came, and possibly missing. */
export interface BootFacts {
  readonly mac?: string
  readonly uuid?: string
  readonly serial?: string
}

/**
 * `kernel`: load this kernel. `none`: nothing to boot; show the reason, name the machine, and ask
 * again later. The boot id is absent when the machine said nothing that tells it from others.
 */
export type BootPlan =
  | {
      readonly kind: 'kernel'
      readonly bootId?: string
      readonly kernel: KernelRecord
      /** The vDisk whose kernel it is, when the client has exactly one. */
      readonly vdisk?: string
    }
  | {
      readonly kind: 'none'
      /** One sentence for the screen. */
      readonly reason: string
      /** What the reader should do, one sentence. */
      readonly action: string
    }

export interface BootPlanner {
  /**
   * Registers or finds the client, opens the record of this boot and stamps `ipxe`.
   * `address` is the machine's address as the socket has it.
   */
  planBoot(facts: BootFacts, address: string): Promise<BootPlan>
  /** Stamps `kernel`: kernel and initramfs have left the server. Unknown ids are ignored. */
  stampKernelSent(bootId: string): void
}
