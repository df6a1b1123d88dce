/** Which distribution this machine runs, and what its packages of systemd and kernel are called. */
import { readFile } from 'node:fs/promises'

export interface HostSystem {
  /** `debian`, `ubuntu`. */
  readonly id: string
  /** `12`, `24.04`. */
  readonly version: string
  readonly codename: string
  /** Kernel without drivers of real hardware: small, quick to start. */
  readonly virtualKernel: string
  /** Kernel for any machine. */
  readonly fullKernel: string
}

type Kernels = Pick<HostSystem, 'virtualKernel' | 'fullKernel'>

export const KERNELS: Readonly<Record<'debian' | 'ubuntu', Kernels>> = {
  debian: { virtualKernel: 'linux-image-cloud-amd64', fullKernel: 'linux-image-amd64' },
  ubuntu: { virtualKernel: 'linux-image-virtual', fullKernel: 'linux-image-generic' },
}

/** @throws when this is neither Debian nor Ubuntu */
export async function readHostSystem(osReleasePath = '/etc/os-release'): Promise<HostSystem> {
  return parseHostSystem(await readFile(osReleasePath, 'utf8'))
}

/** @throws when this is neither Debian nor Ubuntu */
export function parseHostSystem(osRelease: string): HostSystem {
  const value = (key: string) =>
    new RegExp(`^${key}=["']?([^"'\n]*)["']?$`, 'm').exec(osRelease)?.[1] ?? ''
  const [id, codename] = [value('ID'), value('VERSION_CODENAME')]
  const kernels = id === 'debian' || id === 'ubuntu' ? KERNELS[id] : undefined
  if (kernels === undefined || codename === '') {
    throw new Error(
      `Cannot build a vDisk of this system: it is "${value('PRETTY_NAME')}", expected Debian or Ubuntu. Give an image of your own with --disk FILE`,
    )
  }
  return { id, version: value('VERSION_ID'), codename, ...kernels }
}
