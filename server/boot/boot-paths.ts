/** URL paths of the boot files, the same over HTTP (boot script) and over TLS (kexec). */
import { EXTRA_ARCHIVE, KERNEL_IMAGE, MODULES_ARCHIVE } from './boot-files.ts'

/** Where they are served unless `serve --http-port` says otherwise. */
export const HTTP_PORT_DEFAULT = 8080

/** What iPXE begins with. */
export const ENTRY_SCRIPT_PATH = '/boot.ipxe'

/** What a machine is to boot, by what it says of itself. */
export const ASK_PATH = '/boot'

/** The memory test: `.bin` for a BIOS, `.efi` for UEFI. */
export const MEMTEST_PATH = '/files/memtest'

/** The same as the first, where an iPXE that was loaded over HTTP looks by itself (beside it). */
export const AUTOEXEC_PATH = '/ipxe/autoexec.ipxe'

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

/** An iPXE program, for firmware that loads over HTTP. */
export function programPath(name: string): string {
  return `/ipxe/${name}`
}

export function parseProgramPath(path: string): string | undefined {
  return /^\/ipxe\/([A-Za-z0-9._-]+)$/.exec(path)?.[1]
}

/** What led to the server's key; only over TLS. */
export const KEY_CHAIN_PATH = '/key-chain'
