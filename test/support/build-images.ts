/** Builds what the tests boot, before the first test that would otherwise wait for it. */
import { ensureAgentImage } from './agent-image.ts'
import { ensureRootfs } from './rootfs.ts'
import {
  ensureExt4Image,
  ensureGptXfsImage,
  ensureKernelFiles,
  ensureMbrBtrfsImage,
} from './vdisk-image.ts'

const say = (what: string) => process.stdout.write(`${what}\n`)

const rootfs = await ensureRootfs(() => say('installing a system with mmdebstrap'))
for (const ensureImage of [ensureExt4Image, ensureGptXfsImage, ensureMbrBtrfsImage]) {
  say(await ensureImage(rootfs))
}
await ensureKernelFiles(rootfs)
say(await ensureAgentImage(() => say('building the initramfs')))
