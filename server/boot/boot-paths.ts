/** URL paths of the boot files, the same over HTTP (boot script) and over TLS (kexec). */
import { EXTRA_ARCHIVE, KERNEL_IMAGE, MODULES_ARCHIVE } from './boot-files.ts'

/** The base initramfs: agent and tools, for any kernel. */
export const AGENT_IMAGE_PATH = '/files/agent.img'

export interface KernelFilePaths {
  readonly kernelPath: string
  /** Archives the kernel unpacks one over the other, in this order. */
  readonly initrdPaths: string[]
}

/** For kexec, where nobody asks iPXE for the network card: drivers of rare ones come along. */
export function kernelFilePaths(kernelId: string): KernelFilePaths {
  return {
    kernelPath: kernelFilePath(kernelId, KERNEL_IMAGE),
    initrdPaths: [
      AGENT_IMAGE_PATH,
      kernelFilePath(kernelId, MODULES_ARCHIVE),
      kernelFilePath(kernelId, EXTRA_ARCHIVE),
    ],
  }
}

export function kernelFilePath(kernelId: string, file: string): string {
  return `/files/kernel/${kernelId}/${file}`
}

export function parseKernelFilePath(
  path: string,
): { readonly kernelId: string; readonly file: string } | undefined {
  const [, kernelId, file] = /^\/files\/kernel\/([0-9a-f]{64})\/([a-z.]+)$/.exec(path) ?? []
  return kernelId === undefined || file === undefined ? undefined : { kernelId, file }
}

/** What led to the server's key; only over TLS. */
export const KEY_CHAIN_PATH = '/key-chain'
