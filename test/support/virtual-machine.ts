/**
 * A machine in QEMU, with its serial console. It ends with the process that started it, however that
 * ends (setpriv --pdeathsig), and is stopped by its own process id, never by name.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Accelerator } from './accelerator.ts'
import { CACHE_FOLDER } from './build-cache.ts'
import { qmpCommand } from './qmp.ts'
import { VmConsole } from './vm-console.ts'

export interface VmOptions {
  /** Names the log of the console. */
  readonly name: string
  readonly accelerator: Accelerator
  readonly memoryMiB?: number
  readonly network?: VmNetwork
  readonly firmware?: 'bios' | 'uefi'
  /** Started by QEMU itself, past the firmware. */
  readonly kernel?: { readonly path: string; readonly initrd: string; readonly cmdline: string }
  /** Image on a virtio disk; what is written to it is thrown away. */
  readonly disk?: string
  /** A raw file on a virtio disk that keeps what is written to it. */
  readonly localDisk?: string
  /** Image of a CD or of a USB stick that the machine starts from. */
  readonly medium?: { readonly path: string; readonly kind: 'cd' | 'usb' }
  /** Folder of a TPM's state; without one the machine has no TPM. */
  readonly tpm?: string
  /** What the machine's clock says at power-on, as `1980-01-01T00:00:00`; default is the host's. */
  readonly clock?: string
  /** False: the machine ends where it would restart. */
  readonly mayReboot?: boolean
}

export interface VmNetwork {
  /** Where the firmware's iPXE finds its script on QEMU's own network, or a real network instead. */
  readonly from: { readonly bootUrl: string } | LanPort | StreamPort
  readonly mac: string
  readonly card?: 'virtio-net-pci' | 'e1000' | 'e1000e' | 'rtl8139' | 'vmxnet3'
  /**
   * What boots over it: iPXE of the card's ROM (the default), UEFI firmware by PXE or over HTTP, or nothing,
   * when the machine starts from elsewhere.
   */
  readonly bootsBy?: 'rom' | 'firmware-pxe' | 'firmware-http' | 'nothing'
}

/** A tap device of a network namespace, which the machine is started in. */
export interface LanPort {
  readonly tap: string
  /** The same command, inside. */
  readonly command: (command: readonly string[]) => string[]
}

/** A socket that takes the machine's frames (QEMU's netdev "stream"). */
export interface StreamPort {
  readonly stream: string
}

/** Address of the host as machines on QEMU's own network see it. */
export const HOST_ADDRESS = '10.0.2.2'

/** From power-on to a login prompt, with emulated processors on a busy machine. */
export const BOOT_TIMEOUT_MS = 240_000

/** Enough for any of the systems; 512 MiB is what a client must get by with. */
const MEMORY_MIB = 512

/** A TPM in software is there at once. */
const TPM_TIMEOUT_MS = 5_000

/** How QEMU calls the network that a machine is on. */
const NETWORK_ID = 'n0'

export const LOG_FOLDER: string = join(CACHE_FOLDER, 'logs')

/** Where Debian's and Ubuntu's package ovmf puts the firmware. */
const OVMF_FOLDER = '/usr/share/OVMF'

export class VirtualMachine implements AsyncDisposable {
  readonly console: VmConsole
  /** Milliseconds since 1970. */
  readonly startedAtMs: number
  /** Exit status of QEMU, null when a signal ended it. */
  readonly exited: Promise<number | null>
  readonly #child: ChildProcess
  readonly #controlPath: string

  private constructor(child: ChildProcess, options: VmOptions, controlPath: string) {
    this.#controlPath = controlPath
    const { stdin, stdout, stderr } = child
    if (stdin === null || stdout === null || stderr === null) throw new Error('no pipes to QEMU')
    this.startedAtMs = Date.now()
    this.#child = child
    mkdirSync(LOG_FOLDER, { recursive: true })
    this.console = new VmConsole(join(LOG_FOLDER, `${options.name}.log`), (keys) => {
      stdin.write(keys)
    })
    stdin.on('error', () => undefined) // a machine that is off takes no keys
    stdout.on('data', (bytes: Buffer) => this.console.receive(bytes))
    let said = ''
    stderr.on('data', (bytes) => (said += String(bytes)))
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status, signal) => {
        const how = signal === null ? `with status ${status}` : `by ${signal}`
        this.console.end(`QEMU ended ${how}${said === '' ? '' : `: ${said.trim()}`}`)
        resolve(status)
      })
    })
    this.exited.catch(() => undefined) // those who wait for it are told
  }

  static start(options: VmOptions): VirtualMachine {
    const controlPath = join(tmpdir(), `bootwire-qmp-${randomUUID()}`)
    const tpm = options.tpm === undefined ? undefined : startTpm(options.tpm)
    const control = ['-qmp', `unix:${controlPath},server=on,wait=off`]
    const qemu = ['qemu-system-x86_64', ...qemuArguments(options), ...control]
    const command = ['setpriv', '--pdeathsig', 'KILL', ...qemu]
    const from = options.network?.from
    const [program = '', ...args] =
      from !== undefined && 'tap' in from ? from.command(command) : command
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    if (tpm !== undefined) child.once('close', () => tpm.kill('SIGTERM'))
    return new VirtualMachine(child, options, controlPath)
  }

  /** Called with what the console shows, as it is. */
  onOutput(listener: (bytes: Buffer) => void): void {
    this.#child.stdout?.on('data', listener)
  }

  /** Waits until the machine is off by itself. @throws when it is not in time */
  async waitForPowerOff(timeoutMs: number): Promise<void> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      const shown = this.console.lastLines()
      late.reject(new Error(`The machine is not off after ${timeoutMs / 1000} s:\n${shown}`))
    }, timeoutMs)
    try {
      const status = await Promise.race([this.exited, late.promise])
      if (status !== 0) throw new Error(`QEMU ended with status ${status}`)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Pulls the network cable, or puts it in. */
  async setCable(isIn: boolean): Promise<void> {
    await qmpCommand(this.#controlPath, 'set_link', { name: NETWORK_ID, up: isIn })
  }

  /** Writes what the screen shows into a file, in PPM. */
  async screenshot(path: string): Promise<void> {
    await qmpCommand(this.#controlPath, 'screendump', { filename: path })
  }

  /** Cuts the power. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL')
    }
    await this.exited.catch(() => undefined)
    rmSync(this.#controlPath, { force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

function qemuArguments(options: VmOptions): string[] {
  const { kernel, disk, localDisk, network, memoryMiB = MEMORY_MIB, mayReboot = true } = options
  return [
    ...acceleratorArguments(options.accelerator),
    '-smp',
    '2',
    '-m',
    String(memoryMiB),
    '-nographic',
    '-monitor',
    'none',
    '-serial',
    'stdio',
    ...(mayReboot ? [] : ['-no-reboot']),
    ...(options.clock === undefined ? [] : ['-rtc', `base=${options.clock}`]),
    ...firmwareArguments(options),
    ...(options.tpm === undefined ? [] : tpmArguments(options.tpm)),
    ...networkArguments(network),
    ...mediumArguments(options.medium),
    ...(kernel
      ? ['-kernel', kernel.path, '-initrd', kernel.initrd, '-append', kernel.cmdline]
      : []),
    ...(disk ? ['-drive', `file=${disk},format=raw,if=virtio,snapshot=on`] : []),
    ...(localDisk ? ['-drive', `file=${localDisk},format=raw,if=virtio,discard=unmap`] : []),
  ]
}

/** tb-size: the translated code of a whole boot fits into 512 MiB, in the default it does not. */
function acceleratorArguments(accelerator: Accelerator): string[] {
  return accelerator === 'kvm'
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max']
}

function networkArguments(network: VmNetwork | undefined): string[] {
  if (network === undefined) return ['-nic', 'none']
  const { card = 'virtio-net-pci', mac, from, bootsBy = 'rom' } = network
  const device = [
    `${card},netdev=${NETWORK_ID},mac=${mac}`,
    ...(bootsBy === 'nothing' ? [] : ['bootindex=1']),
    // Without iPXE's ROM OVMF takes its own driver (virtio only), and is a firmware like any other.
    ...(bootsBy === 'rom' ? [] : ['romfile=']),
  ]
  // OVMF tries PXE before HTTP, for a minute each.
  const noPxe = ['IPv4PXESupport', 'IPv6PXESupport'].flatMap((name) => [
    '-fw_cfg',
    `name=opt/org.tianocore/${name},string=n`,
  ])
  const backend = backendOf(from)
  return [
    '-netdev',
    `${backend},id=${NETWORK_ID}`,
    '-device',
    device.join(','),
    ...(bootsBy === 'firmware-http' ? noPxe : []),
  ]
}

function backendOf(from: VmNetwork['from']): string {
  if ('tap' in from) return `tap,ifname=${from.tap},script=no,downscript=no`
  if ('stream' in from) return `stream,server=off,addr.type=unix,addr.path=${from.stream}`
  return `user,bootfile=${from.bootUrl}`
}

function mediumArguments(medium: VmOptions['medium']): string[] {
  if (medium === undefined) return []
  const drive = ['-drive', `if=none,id=medium,format=raw,readonly=on,file=${medium.path}`]
  return medium.kind === 'cd'
    ? [...drive, '-device', 'ide-cd,drive=medium,bootindex=1']
    : [...drive, '-device', 'qemu-xhci', '-device', 'usb-storage,drive=medium,bootindex=1']
}

const tpmSocket = (folder: string) => join(folder, 'control')

/** A TPM 2.0 in software. QEMU waits for its socket. */
function startTpm(folder: string): ChildProcess {
  const options = ['--tpm2', '--tpmstate', `dir=${folder}`]
  const command = ['socket', ...options, '--ctrl', `type=unixio,path=${tpmSocket(folder)}`]
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'swtpm', ...command], {
    stdio: 'inherit',
  })
  // Without it the machine would not start.
  const untilMs = Date.now() + TPM_TIMEOUT_MS
  while (!existsSync(tpmSocket(folder)) && Date.now() < untilMs) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
  }
  return child
}

function tpmArguments(folder: string): string[] {
  return [
    '-chardev',
    `socket,id=tpm-control,path=${tpmSocket(folder)}`,
    '-tpmdev',
    'emulator,id=tpm,chardev=tpm-control',
    '-device',
    'tpm-tis,tpmdev=tpm',
  ]
}

function firmwareArguments({ name, firmware = 'bios' }: VmOptions): string[] {
  if (firmware === 'bios') return []
  const variables = join(LOG_FOLDER, `${name}.efivars`)
  mkdirSync(LOG_FOLDER, { recursive: true })
  copyFileSync(join(OVMF_FOLDER, 'OVMF_VARS_4M.fd'), variables)
  const flash = (file: string, more = '') => `if=pflash,format=raw,file=${file}${more}`
  const code = flash(join(OVMF_FOLDER, 'OVMF_CODE_4M.fd'), ',readonly=on')
  return ['-machine', 'q35', '-drive', code, '-drive', flash(variables)]
}
