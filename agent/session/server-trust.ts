/**
 * Which keys of servers this machine trusts. A machine that was enrolled anywhere trusts the servers it has
 * written down, whatever its boot script says; one that was not trusts the pin of the script. A server that
 * changed its key shows by what its former keys have signed that it is the same.
 */
import * as v from 'valibot'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { followChain, type KeyChain, keyChainSchema } from '#shared/identity/key-chain.ts'
import { connectPinned, nameOf } from '#shared/tls/pinned-tls.ts'
import { fetchSmall } from './small-fetch.ts'

/** As on the server (server/boot/boot-paths.ts). */
const KEY_CHAIN_PATH = '/key-chain'

export class ServerTrust {
  readonly #scriptPin: string
  readonly #known: () => Promise<readonly string[]>
  #pins: Set<string> | undefined
  #isEnrolled = false

  /** `known` are the servers that the machine has written down. */
  constructor(scriptPin: string, known: () => Promise<readonly string[]> = async () => []) {
    this.#scriptPin = scriptPin
    this.#known = known
  }

  /** The keys that are trusted so far. */
  async pins(): Promise<ReadonlySet<string>> {
    if (this.#pins !== undefined) return this.#pins
    const known = await this.#known()
    this.#isEnrolled = known.length > 0
    this.#pins = new Set(this.#isEnrolled ? known : [this.#scriptPin])
    return this.#pins
  }

  /** The same, for who has a connection already. */
  get known(): ReadonlySet<string> {
    return this.#pins ?? new Set([this.#scriptPin])
  }

  /**
   * Asks a server with an unknown key what led to it. Nothing of this machine is told.
   * @throws {BootwireError} KEY_MISMATCH when nothing does; as `connectPinned`
   */
  async learn(server: ServerAddress, pin: string, signal: AbortSignal): Promise<void> {
    const pins = await this.pins()
    const socket = await connectPinned({ server, pin, signal })
    // Whoever says nothing of its former keys is a stranger.
    const text = await fetchSmall(socket, server, KEY_CHAIN_PATH).catch(() => '')
    const trusted = followChain(pins, parseChain(text))
    if (!trusted.has(pin)) throw this.#stranger(server, pin, pins)
    this.#pins = trusted
  }

  #stranger(server: ServerAddress, pin: string, pins: ReadonlySet<string>): BootwireError {
    const known = [...pins].join(', ')
    const why = this.#isEnrolled
      ? `this machine belongs to another server: its key is ${pin}, the machine knows ${known}; "bootwire-agent key renew DEVICE" makes it forget`
      : `its key is ${pin}, expected ${known}`
    return new BootwireError('KEY_MISMATCH', `Cannot trust ${nameOf(server)}: ${why}`)
  }
}

function parseChain(text: string): KeyChain {
  try {
    const result = v.safeParse(keyChainSchema, JSON.parse(text))
    return result.success ? result.output : []
  } catch {
    return [] // something else answers there
  }
}
