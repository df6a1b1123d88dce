/**
 * The serial console of a virtual machine: what it shows as plain text, waited for by patterns, and a
 * line to type on. Whatever was shown stays in a log file, each line with its time.
 *
 * A wait begins where the last one matched, so what was matched once is not matched again. One wait
 * at a time.
 */
import { createWriteStream, type WriteStream } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { invariant } from '#shared/invariant.ts'

export interface ConsoleMatch {
  readonly groups: Readonly<Record<string, string>>
  /** Text from the end of the last match to the end of this one. */
  readonly text: string
  /** Milliseconds since 1970 at which the machine had shown it. */
  readonly atMs: number
}

export interface ExpectOptions {
  readonly timeoutMs: number
  /** Ends the wait with a failure at once. */
  readonly unless?: RegExp
}

interface Wait {
  readonly pattern: RegExp
  readonly unless: RegExp
  readonly resolve: (match: ConsoleMatch) => void
  readonly reject: (error: Error) => void
}

/** A kernel that says so says nothing more. */
const PANIC = /Kernel panic - not syncing[^\n]*\n/

/** Lines shown when a wait fails. */
const SHOWN_LINES = 30

// oxlint-disable-next-line no-control-regex -- control sequences of terminals (ECMA-48) are to go
const SEQUENCES = /\x1b(?:\[[0-9;?]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78cDEHMNOZ])|[\r\x00\x07]/g
// oxlint-disable-next-line no-control-regex -- the beginning of one, whose rest comes with the next bytes
const UNFINISHED = /\x1b(?:\[[0-9;?]*|\][^\x07]*|[()])?$/

export class VmConsole {
  readonly logPath: string
  readonly #log: WriteStream
  readonly #startedMs = performance.now()
  readonly #type: (keys: string | Uint8Array) => void
  readonly #decoder = new StringDecoder('utf8')
  #onLine: (line: string) => void = () => undefined
  #pending = ''
  #line = ''
  #text = ''
  #matchedTo = 0
  #wait: Wait | undefined
  #ended = false

  constructor(logPath: string, type: (keys: string | Uint8Array) => void) {
    this.logPath = logPath
    this.#log = createWriteStream(logPath)
    this.#type = type
  }

  /** Everything shown so far, without control sequences. */
  get text(): string {
    return this.#text
  }

  /** Types on the console's keyboard. */
  send(keys: string | Uint8Array): void {
    this.#type(keys)
  }

  /** Calls for every whole line from now on, with its time as in the log. */
  onLine(listener: (line: string) => void): void {
    this.#onLine = listener
  }

  /** Takes what the machine has put out. */
  receive(bytes: Buffer): void {
    const raw = this.#pending + this.#decoder.write(bytes)
    const cut = UNFINISHED.exec(raw)?.index ?? raw.length
    this.#pending = raw.slice(cut)
    const text = raw.slice(0, cut).replaceAll(SEQUENCES, '')
    this.#text += text
    this.#writeLog(text)
    this.#check()
  }

  /** Called when nothing more comes; whoever waits has waited in vain. */
  end(reason: string): void {
    if (this.#ended) return
    this.#ended = true
    this.#log.end(`${this.#line}\n${this.#seconds()} ${reason}\n`)
    this.#wait?.reject(this.#failure(`The machine ended (${reason}) before its console showed`))
  }

  /**
   * Waits until the console shows the pattern.
   * @throws when it does not in time, when the kernel panics, or when the machine ends
   */
  async expect(pattern: RegExp, options: ExpectOptions): Promise<ConsoleMatch> {
    invariant(this.#wait === undefined, 'one wait at a time')
    const unless = options.unless ?? PANIC
    const { promise, resolve, reject } = Promise.withResolvers<ConsoleMatch>()
    this.#wait = { pattern, unless, resolve, reject }
    const timer = setTimeout(() => {
      reject(this.#failure(`The console did not show within ${options.timeoutMs / 1000} s`))
    }, options.timeoutMs)
    try {
      this.#check()
      if (this.#ended) reject(this.#failure('The machine ended before its console showed'))
      return await promise
    } finally {
      clearTimeout(timer)
      this.#wait = undefined
    }
  }

  /** The end of what was shown, for people. */
  lastLines(): string {
    const lines = this.#text.split('\n').filter((line) => line.trim() !== '')
    return lines.slice(-SHOWN_LINES).join('\n')
  }

  #check(): void {
    const wait = this.#wait
    if (wait === undefined) return
    const fresh = this.#text.slice(this.#matchedTo)
    const match = wait.pattern.exec(fresh)
    if (match !== null) {
      const end = match.index + match[0].length
      this.#matchedTo += end
      wait.resolve({ groups: match.groups ?? {}, text: fresh.slice(0, end), atMs: Date.now() })
    } else if (wait.unless.test(fresh) || PANIC.test(fresh)) {
      wait.reject(this.#failure('The console showed a failure instead of'))
    }
  }

  #failure(what: string): Error {
    return new Error(
      `${what} ${String(this.#wait?.pattern)}. Its last lines (all of it: ${this.logPath}):\n${this.lastLines()}`,
    )
  }

  #writeLog(text: string): void {
    const lines = (this.#line + text).split('\n')
    this.#line = lines.pop() ?? ''
    for (const line of lines) {
      const timed = `${this.#seconds()} ${line}`
      this.#log.write(`${timed}\n`)
      this.#onLine(timed)
    }
  }

  #seconds(): string {
    return ((performance.now() - this.#startedMs) / 1000).toFixed(2).padStart(8)
  }
}
