/** URL paths of the boot files, the same over HTTP (boot script) and over TLS (kexec). */

/** The base initramfs: agent and tools, for any kernel. */
export const AGENT_IMAGE_PATH = '/files/agent.img'

export interface KernelFilePaths {
  readonly kernelPath: string
  /** Archives the kernel unpacks one over the other, in this order. */
  readonly initrdPaths: string[]
}

export function kernelFilePaths(kernelId: string): KernelFilePaths {
  const folder = `/files/kernel/${kernelId}`
  return {
    kernelPath: `${folder}/vmlinuz`,
    initrdPaths: [AGENT_IMAGE_PATH, `${folder}/modules.img`],
  }
}
