/**
 * The technician of a boot: brings up the screen on a key or when the boot parameters say so, and holds the boot
 * as long as it is up. Gone once a system begins, whose consoles they are then.
 */
import { writeFileSync } from 'node:fs'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { type CaptureOptions, captureDisk } from '../capture/capture-disk.ts'
import { checkChain, type Probes } from '../diagnosis/chain-check.ts'
import {
  type NetworkFacts,
  probeDhcp,
  probeDns,
  probeGateway,
  probeLink,
  probeServer,
} from '../diagnosis/network-probes.ts'
import {
  type ProbedSession,
  probeAssignment,
  probeClock,
  probeIdentity,
  probeStream,
  probeTls,
} from '../diagnosis/server-probes.ts'
import { BlockDevices } from '../local-disk/block-devices.ts'
import { macOfCard, readMachineFacts } from '../machine/read-facts.ts'
import { showCaptureScreen } from '../screen/capture-screen.ts'
import type { Consoles } from '../screen/consoles.ts'
import type { Key } from '../screen/keys.ts'
import { showTechnicianScreen, type TechnicianOptions } from '../screen/technician-screen.ts'
import { networkFacts } from './network.ts'
import type { RunFolder } from './run-folder.ts'

export interface TechnicianParts {
  readonly runFolder: RunFolder
  readonly consoles: Consoles
  readonly servers: readonly ServerAddress[]
  /** Undefined before the network is up. */
  readonly session: () => ProbedSession | undefined
}

const HOT_KEY = 't'

const WAITS = { state: 'untested', text: 'the boot has not come that far' } as const

export class Technician implements AsyncDisposable {
  readonly #parts: TechnicianParts
  #shown: Promise<void> | undefined

  constructor(parts: TechnicianParts) {
    this.#parts = parts
    parts.consoles.onUnclaimedKey((key) => this.#press(key))
  }

  /** Begins to listen for the key. */
  async listen(): Promise<void> {
    await this.#parts.consoles.watchKeys()
  }

  show(): void {
    this.#shown ??= this.#run().finally(() => {
      this.#shown = undefined
    })
  }

  /** Returns when the screen is not, or no longer, up. */
  async gone(): Promise<void> {
    while (this.#shown !== undefined) await this.#shown
  }

  /** Waits until the screen is gone, and leaves the consoles to who comes next. */
  async leave(): Promise<void> {
    await this.gone()
    this.#parts.consoles.onUnclaimedKey(() => false)
    await this.#parts.consoles.unwatchKeys()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave()
  }

  #press(key: Key): boolean {
    if (key.kind !== 'character' || key.character.toLowerCase() !== HOT_KEY) return false
    this.show()
    return true
  }

  async #run(): Promise<void> {
    const { consoles, session } = this.#parts
    const about = () => {
      const identity = session()?.identity
      return {
        facts: readMachineFacts(this.#network().interfaceName),
        hostname: identity?.hostname,
        serverName: identity?.serverName,
      }
    }
    const options: TechnicianOptions = {
      about,
      check: (onChange) => checkChain(this.#probes(), onChange),
      // Nothing is mounted yet that would have to be written back.
      restart: () => writeFileSync('/proc/sysrq-trigger', 'b'),
    }
    while ((await showTechnicianScreen(consoles, options)) === 'capture') {
      await showCaptureScreen(consoles, {
        about,
        disks: () => new BlockDevices().disks(),
        capture: (name, onProgress, signal) => this.#capture(name, onProgress, signal),
      })
    }
  }

  async #capture(
    name: string,
    onProgress: CaptureOptions['onProgress'],
    signal: AbortSignal,
  ): Promise<string> {
    const { servers, session } = this.#parts
    const pin = session()?.trust.known
    if (pin === undefined) throw new BootwireError('NO_ADDRESS', 'There is no network yet')
    const facts = readMachineFacts(this.#network().interfaceName)
    return await captureDisk({ path: `/dev/${name}`, servers, pin, facts, onProgress, signal })
  }

  #network(): NetworkFacts {
    return networkFacts(this.#parts.runFolder)
  }

  #probes(): Probes {
    const { servers, session } = this.#parts
    const network = this.#network()
    const withSession = async (probe: (session: ProbedSession) => ReturnType<Probes['TLS']>) => {
      const now = session()
      return now === undefined ? WAITS : await probe(now)
    }
    return {
      link: () => probeLink(network),
      DHCP: () => probeDhcp(network, macOfCard(network.interfaceName) ?? ''),
      gateway: () => probeGateway(network),
      DNS: () => probeDns(network, servers),
      server: () => probeServer(servers),
      TLS: () => withSession((session) => probeTls(servers, session)),
      clock: () => withSession((session) => probeClock(session)),
      identity: () => withSession(probeIdentity),
      assignment: () => withSession(probeAssignment),
      stream: () => withSession((session) => probeStream(servers, session)),
    }
  }
}
