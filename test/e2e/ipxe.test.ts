/** Boot scripts and boot files through real firmware: everything up to the first process. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { BootFiles } from '#server/boot/boot-files.ts'
import { createBootHandler } from '#server/boot/boot-http.ts'
import type { BootFacts, BootPlan } from '#server/boot/boot-plan.ts'
import { importImage } from '#server/import/import-image.ts'
import { Spool } from '#server/import/spool.ts'
import { silentLog } from '#server/log.ts'
import type { KernelRecord } from '#server/state/records.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { kernelParameters } from '#shared/boot/kernel-cmdline.ts'
import { invariant } from '#shared/invariant.ts'
import { signForTest } from '#test/support/memory-chunk-store.ts'
import { ensureRootfs } from '#test/support/rootfs.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureMbrBtrfsImage } from '#test/support/vdisk-image.ts'
import { HOST_ADDRESS, VirtualMachine, type VmNetwork } from '#test/support/virtual-machine.ts'

const run = promisify(execFile)

/** Firmware, iPXE, 14 MB of kernel and drivers, and the kernel's start, on emulated processors. */
const TIMEOUT_MS = 180_000

const MAC = '52:54:00:0a:0b:0c'
const BOOT_ID = '0123456789abcdef'
const NOTHING: BootPlan = {
  kind: 'none',
  reason: 'This server has no vDisk with a kernel yet',
  action: 'Import one on the server: bootwire vdisk import FILE',
}

describe('iPXE', () => {
  let temporary: TemporaryFolder
  let server: Server
  let kernel: KernelRecord
  /** True: the card counts as one that modules.img has no driver for. */
  let isCardRare = false
  /** Given out one after the other, the last again and again. */
  let plans: BootPlan[]
  const asked: BootFacts[] = []
  const sent: string[] = []

  before(async () => {
    temporary = await createTemporaryFolder()
    const agentImagePath = join(temporary.path, 'agent.img')
    await packProbe(agentImagePath)
    const bootFiles = await BootFiles.open(temporary.path)
    const store = await ContentStore.open(join(temporary.path, 'store'), { sign: signForTest })
    const spool = await Spool.open(join(temporary.path, 'spool'))
    const path = await ensureMbrBtrfsImage(await ensureRootfs())
    const { signal } = new AbortController()
    const deps = { store, bootFiles, spool, log: silentLog() }
    const imported = await importImage({ path }, deps, () => undefined, signal)
    await store.close()
    invariant(imported.kernel !== undefined, 'the image has a kernel')
    kernel = imported.kernel
    const handler = createBootHandler({
      planBoot: async (facts) => {
        asked.push(facts)
        return (plans.length > 1 ? plans.shift() : plans[0]) ?? NOTHING
      },
      stampKernelSent: (bootId) => sent.push(bootId),
      pin: 'p'.repeat(43),
      tlsPort: 8443,
      agentImagePath,
      bootFiles: {
        find: (id, file) => bootFiles.find(id, file),
        hasDriver: (id, device) => !isCardRare && bootFiles.hasDriver(id, device),
      },
      log: silentLog(),
    })
    server = createServer(handler).listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  after(async () => {
    server.closeAllConnections()
    server.close()
    await temporary[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    plans = [{ kind: 'kernel', bootId: BOOT_ID, kernel, vdisk: 'lab' }]
    isCardRare = false
    asked.length = 0
    sent.length = 0
  })

  const boot = (name: string, card: VmNetwork['card'], firmware: 'bios' | 'uefi') => {
    const { port } = server.address() as AddressInfo
    const bootUrl = `http://${HOST_ADDRESS}:${port}/boot.ipxe`
    const network = { from: { bootUrl }, mac: MAC, ...(card && { card }) }
    return VirtualMachine.start({ name, accelerator: 'tcg', network, firmware, mayReboot: false })
  }

  /** Waits for the probe and returns what it said, by its first word. */
  const probe = async (machine: VirtualMachine): Promise<Map<string, string[]>> => {
    const { text } = await machine.console.expect(/PROBE end/, { timeoutMs: TIMEOUT_MS })
    const said = new Map<string, string[]>()
    for (const [, key = '', value = ''] of text.matchAll(/PROBE (\w+) ?(.*)$/gm)) {
      said.set(key, [...(said.get(key) ?? []), value])
    }
    return said
  }

  it('loads kernel and drivers on a BIOS machine', async () => {
    await using machine = boot('ipxe-bios', 'e1000', 'bios')
    const said = await probe(machine)
    assert.deepEqual(said.get('nbd'), ['works'])
    assert.deepEqual(said.get('card'), ['eth0'])
    assert.deepEqual(said.get('mounts'), ['ext4', 'xfs', 'btrfs'])
    const cmdline = kernelParameters(said.get('cmdline')?.[0] ?? '')
    assert.equal(cmdline.get('BOOTIF'), `01-${MAC.replaceAll(':', '-')}`)
    assert.equal(cmdline.get('ip'), '10.0.2.15::10.0.2.2:255.255.255.0:::none:10.0.2.3')
    assert.equal(cmdline.get('bootwire.servers'), `${HOST_ADDRESS}:8443`)
    assert.equal(cmdline.get('bootwire.boot'), BOOT_ID)
    assert.deepEqual(sent, [BOOT_ID])
    assert.equal(asked[0]?.mac, MAC)
    const vendors = said.get('vendors')?.[0]?.split(' ') ?? []
    assert.ok(!vendors.includes('mellanox'), 'drivers of rare cards stay on the server')
  })

  it('loads drivers of rare cards over UEFI where the card is one', async () => {
    isCardRare = true
    await using machine = boot('ipxe-uefi', 'virtio-net-pci', 'uefi')
    const said = await probe(machine)
    assert.deepEqual(said.get('nbd'), ['works'])
    assert.deepEqual(said.get('card'), ['eth0'])
    assert.deepEqual(said.get('mounts'), ['ext4', 'xfs', 'btrfs'])
    assert.ok(said.get('vendors')?.[0]?.split(' ').includes('mellanox'))
    assert.deepEqual(sent, [BOOT_ID])
  })

  it('says why there is nothing to boot, asks again, and goes on when there is', async () => {
    plans.unshift(NOTHING)
    await using machine = boot('ipxe-waiting', 'virtio-net-pci', 'bios')
    await machine.console.expect(/cannot boot yet[^]*no vDisk with a kernel yet[^]*Import one/, {
      timeoutMs: TIMEOUT_MS,
    })
    assert.deepEqual((await probe(machine)).get('nbd'), ['works'])
  })
})

/** An initramfs that tells what it finds. */
async function packProbe(path: string): Promise<void> {
  const script = `
    mkdir -p bin usr/lib proc sys dev
    ln -s usr/lib lib
    ln -s bin sbin
    cp "$(command -v busybox)" bin/busybox
    install -m 755 "$1" init
    find . | cpio --create --format=newc --quiet | zstd -q -3 -o "$2"`
  await using folder = await createTemporaryFolder()
  const init = join(import.meta.dirname, '../support/probe-init.sh')
  await run('sh', ['-euc', script, 'sh', init, path], { cwd: folder.path })
}
