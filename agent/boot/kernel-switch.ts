/**
 * Starts the kernel of the chosen vDisk when another one runs (kexec). The agent begins anew under
 * it, and finds on the command line that the choice was made.
 */
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type BootParameters, renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import type { PinnedTlsOptions } from '#shared/tls/pinned-tls.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { appendDownload } from '../session/download.ts'

export interface KernelFiles {
  readonly kernelPath: string
  readonly initrdPath: string
}

export type VdiskKernel = NonNullable<Opened['kernel']>

/**
 * Loads the kernel and its archives into a folder that is emptied first. A large initramfs archive
 * is several of them behind one another, as boot loaders do it.
 * @throws {BootwireError} as `appendDownload`; KEXEC_FAILED when the kernel is another
 */
export async function downloadKernel(
  kernel: VdiskKernel,
  connection: PinnedTlsOptions,
  folder: string,
): Promise<KernelFiles> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const files = { kernelPath: join(folder, 'vmlinuz'), initrdPath: join(folder, 'initrd.img') }
  await appendDownload({ ...connection, path: kernel.kernelPath }, files.kernelPath)
  const found = await hashOf(files.kernelPath)
  if (found !== kernel.id) {
    throw new BootwireError(
      'KEXEC_FAILED',
      `Cannot start kernel ${kernel.release}: the server sent ${found}, expected ${kernel.id}`,
    )
  }
  for (const path of kernel.initrdPaths) {
    await appendDownload({ ...connection, path }, files.initrdPath)
  }
  return files
}

/** What boot loaders put on a command line about themselves, and our own parameters. */
const LEFT_OUT = /^(?:initrd=|BOOT_IMAGE=|bootwire\.)/

/** The running kernel's command line with our parameters as given. */
export function cmdlineFor(cmdline: string, parameters: BootParameters): string {
  const words = cmdline.trim().split(/\s+/)
  const kept = words.filter((word) => !LEFT_OUT.test(word))
  return [...kept, renderBootParameters(parameters)].join(' ')
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
