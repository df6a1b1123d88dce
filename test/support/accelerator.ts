/**
 * Whether machines run on the processor itself (KVM) or on an emulated one (TCG). /dev/kvm being
 * there proves little: inside a virtual machine it may hang or crash guests. So a guest is started,
 * and only when its first program speaks KVM is used; the answer is kept until the host restarts.
 *
 * BOOTWIRE_ACCELERATOR=kvm or =tcg decides without asking.
 */
import { constants } from 'node:fs'
import { access, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CACHE_FOLDER } from './build-cache.ts'
import { runScript } from './child-run.ts'
import { createTemporaryFolder } from './temporary-folder.ts'
import { VirtualMachine } from './virtual-machine.ts'

export const ACCELERATORS = ['kvm', 'tcg'] as const
export type Accelerator = (typeof ACCELERATORS)[number]

/** With KVM the guest speaks within two seconds. */
const PROBE_TIMEOUT_MS = 20_000

const MARKER = 'the first program runs'

const ANSWER_PATH = join(CACHE_FOLDER, 'accelerator.json')

/** Returns what to run machines with; `kernelPath` is any kernel for x86. */
export async function chooseAccelerator(kernelPath: string): Promise<Accelerator> {
  const wanted = process.env['BOOTWIRE_ACCELERATOR']
  const forced = ACCELERATORS.find((accelerator) => accelerator === wanted)
  if (forced !== undefined) return forced
  if (!(await mayHaveKvm())) return 'tcg'
  const hostBootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  const known = await keptAnswer(hostBootId)
  if (known !== undefined) return known
  const accelerator = (await runsGuest('kvm', kernelPath)) ? 'kvm' : 'tcg'
  await mkdir(CACHE_FOLDER, { recursive: true })
  await writeFile(ANSWER_PATH, JSON.stringify({ hostBootId, accelerator }))
  return accelerator
}

/** Without the processor's own feature a /dev/kvm is not worth the twenty seconds. */
async function mayHaveKvm(): Promise<boolean> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK)
    return /^flags\s*:.*\b(vmx|svm)\b/m.test(await readFile('/proc/cpuinfo', 'utf8'))
  } catch {
    return false // no device, or none for us
  }
}

async function keptAnswer(hostBootId: string): Promise<Accelerator | undefined> {
  try {
    const kept: unknown = JSON.parse(await readFile(ANSWER_PATH, 'utf8'))
    if (typeof kept !== 'object' || kept === null) return undefined
    const { hostBootId: of, accelerator } = kept as { hostBootId?: unknown; accelerator?: unknown }
    return of === hostBootId ? ACCELERATORS.find((it) => it === accelerator) : undefined
  } catch {
    return undefined // not asked yet
  }
}

/** Starts a guest whose only program prints a marker. */
export async function runsGuest(accelerator: Accelerator, kernelPath: string): Promise<boolean> {
  await using folder = await createTemporaryFolder()
  const initrd = join(folder.path, 'initrd')
  await runScript(
    `mkdir -p "$1/tree/bin"
    cp "$(command -v busybox)" "$1/tree/bin/busybox"
    printf '#!/bin/busybox sh\\necho %s\\nexec /bin/busybox poweroff -f\\n' "$2" >"$1/tree/init"
    chmod +x "$1/tree/init"
    cd "$1/tree"
    find . | cpio --quiet -o -H newc >"$1/initrd"`,
    [folder.path, MARKER],
  )
  await using machine = VirtualMachine.start({
    name: `probe-${accelerator}`,
    accelerator,
    kernel: { path: kernelPath, initrd, cmdline: 'console=ttyS0 panic=-1' },
    mayReboot: false,
  })
  try {
    await machine.console.expect(new RegExp(MARKER), { timeoutMs: PROBE_TIMEOUT_MS })
    return true
  } catch {
    return false // whatever was wrong with it: it does not run guests
  }
}
