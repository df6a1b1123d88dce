/** Kernel and initramfs of a site as files, for a machine that is started past firmware and iPXE. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { VDiskView } from '#server/admin/admin-api.ts'
import { AGENT_IMAGE } from './agent-image.ts'
import type { BootSite } from './boot-site.ts'

/** The kernel that the newest version of a vDisk brings. */
export async function kernelIdOf(site: BootSite, vdisk: string): Promise<string> {
  const { versions } = await site.server.json<VDiskView>('vdisk', 'show', vdisk)
  const kernelId = versions[0]?.kernel?.id
  if (kernelId === undefined) throw new Error(`${vdisk} brings no kernel`)
  return kernelId
}

/** Writes the initramfs to `path`: the agent's, and the drivers of a kernel, this one unless told otherwise. */
export async function directBoot(
  site: BootSite,
  path: string,
  kernelId: string,
  driversOf = kernelId,
): Promise<{ readonly path: string; readonly initrd: string }> {
  const folder = (id: string) => join(site.stateFolder, 'boot', 'kernel', id)
  const drivers = ['modules.img', 'extra.img'].map((name) => join(folder(driversOf), name))
  const parts = [AGENT_IMAGE, ...drivers].map(async (file) => await readFile(file))
  await writeFile(path, Buffer.concat(await Promise.all(parts)))
  return { path: join(folder(kernelId), 'vmlinuz'), initrd: path }
}
