/** The supervisor starts another kernel, with another initrd and another command line. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { chooseAccelerator } from '#test/support/accelerator.ts'
import { runScript } from '#test/support/child-run.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { ensureSupervisor } from '#test/support/supervisor-binary.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureKernelFiles } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, VirtualMachine } from '#test/support/virtual-machine.ts'

const CMDLINE = 'console=ttyS0 quiet of="the second kernel"'

/** A script, since busybox itself takes its name, "@bootwire-agent", for an applet's. */
const AGENT = `#!/bin/busybox sh
echo "kexec /vmlinuz /second.img ${CMDLINE.replaceAll('"', '\\"')}" >&3
read -r answer <&3
echo "ANSWER $answer"
exit 64
`

const FIRST_INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/supervisor -- /agent
/bin/busybox poweroff -f
`

const SECOND_INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "SECOND $(/bin/busybox cat /proc/cmdline)"
/bin/busybox poweroff -f
`

/** Packs the second initrd into the first. */
const PACK = `
  cd "$1"
  busybox=$(command -v busybox)
  mkdir -p first/bin first/proc first/dev second/bin second/proc
  cp "$busybox" first/bin/busybox
  cp "$busybox" second/bin/busybox
  cp "$2" first/supervisor
  cp "$3" first/vmlinuz
  mv first.init first/init
  mv second.init second/init
  mv agent first/agent
  chmod +x first/init second/init first/agent
  (cd second && find . | cpio --quiet -o -H newc) >first/second.img
  (cd first && find . | cpio --quiet -o -H newc) >first.img`

describe('bootwire-supervisor', { timeout: 2 * BOOT_TIMEOUT_MS }, () => {
  it('starts another kernel by kexec', async () => {
    const { kernel } = await ensureKernelFiles(await ensureRootfs())
    await using folder = await createTemporaryFolder()
    const at = (name: string) => join(folder.path, name)
    await writeFile(at('first.init'), FIRST_INIT)
    await writeFile(at('second.init'), SECOND_INIT)
    await writeFile(at('agent'), AGENT)
    await runScript(PACK, [folder.path, await ensureSupervisor(), kernel])
    await using machine = VirtualMachine.start({
      name: 'supervisor-kexec',
      accelerator: await chooseAccelerator(kernel),
      kernel: { path: kernel, initrd: at('first.img'), cmdline: 'console=ttyS0 quiet' },
      mayReboot: false,
    })
    const { groups } = await machine.console.expect(/SECOND (?<cmdline>.*)\n/, {
      timeoutMs: BOOT_TIMEOUT_MS,
      unless: /ANSWER .*\n/,
    })
    assert.equal(groups['cmdline'], CMDLINE)
    await machine.waitForPowerOff(BOOT_TIMEOUT_MS)
  })
})
