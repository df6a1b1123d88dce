/**
 * Turns the bytes of a terminal into keys, whatever the reads cut them into. Knows the Linux console,
 * xterm and the VT terminals that serial programs imitate.
 *
 * Bytes that are no key of ours (line noise of an open serial line, other control keys) come out as
 * `unknown`: they may redraw a screen, but they are nobody's decision.
 */

export type Key =
  | { readonly kind: NamedKey }
  /** A printable ASCII character, the space too. */
  | { readonly kind: 'character'; readonly character: string }

export type NamedKey =
  | 'up'
  | 'down'
  | 'home'
  | 'end'
  | 'page-up'
  | 'page-down'
  | 'enter'
  | 'escape'
  | 'backspace'
  | 'redraw'
  | 'unknown'

const ESCAPE = 0x1b
const CARRIAGE_RETURN = 0x0d
const LINE_FEED = 0x0a

const CONTROL_KEYS: ReadonlyMap<number, NamedKey> = new Map([
  [0x08, 'backspace'],
  [LINE_FEED, 'enter'],
  [0x0c, 'redraw'], // Ctrl-L
  [CARRIAGE_RETURN, 'enter'],
  [0x7f, 'backspace'],
])

/** By the last byte of `ESC [ … X` or `ESC O X`. */
const FINAL_KEYS: ReadonlyMap<string, NamedKey> = new Map([
  ['A', 'up'],
  ['B', 'down'],
  ['F', 'end'],
  ['H', 'home'],
  ['M', 'enter'], // of the keypad, after ESC O
])

/** By the number of `ESC [ N ~`. */
const TILDE_KEYS: ReadonlyMap<string, NamedKey> = new Map([
  ['1', 'home'],
  ['4', 'end'],
  ['5', 'page-up'],
  ['6', 'page-down'],
  ['7', 'home'],
  ['8', 'end'],
])

/** Longest sequence of a key; a longer one is noise. */
const SEQUENCE_LENGTH_MAX = 16

/** `ground`: between keys. The others are named after what came last. */
type State = 'ground' | 'carriage-return' | 'escape' | 'csi' | 'ss3' | 'linux-function-key'

export class KeyDecoder {
  #state: State = 'ground'
  #parameters = ''

  /** True while the bytes so far may be the beginning of a longer sequence: see `flush`. */
  get isWaiting(): boolean {
    return this.#state !== 'ground' && this.#state !== 'carriage-return'
  }

  push(bytes: Uint8Array): Key[] {
    const keys: Key[] = []
    for (const byte of bytes) {
      const key = this.#take(byte)
      if (key !== undefined) keys.push(key)
    }
    return keys
  }

  /** Called when nothing followed for a while: an escape by itself is the key Esc. */
  flush(): Key[] {
    if (!this.isWaiting) return []
    const kind = this.#state === 'escape' ? 'escape' : 'unknown'
    this.#state = 'ground'
    return [{ kind }]
  }

  #take(byte: number): Key | undefined {
    switch (this.#state) {
      case 'carriage-return':
        this.#state = 'ground'
        // Some terminals send both for one Enter.
        return byte === LINE_FEED ? undefined : this.#takeFirst(byte)
      case 'ground':
        return this.#takeFirst(byte)
      case 'escape':
        return this.#takeSecond(byte)
      case 'csi':
        return this.#takeParameter(byte)
      case 'ss3':
        return this.#end(FINAL_KEYS.get(String.fromCharCode(byte)))
      case 'linux-function-key':
        return this.#end(undefined)
    }
  }

  #takeFirst(byte: number): Key | undefined {
    if (byte === ESCAPE) {
      this.#state = 'escape'
      return undefined
    }
    if (byte === CARRIAGE_RETURN) this.#state = 'carriage-return'
    if (byte >= 0x20 && byte <= 0x7e) {
      return { kind: 'character', character: String.fromCharCode(byte) }
    }
    return { kind: CONTROL_KEYS.get(byte) ?? 'unknown' }
  }

  #takeSecond(byte: number): Key | undefined {
    this.#parameters = ''
    if (byte === 0x5b) this.#state = 'csi'
    else if (byte === 0x4f) this.#state = 'ss3'
    else if (byte === ESCAPE) return { kind: 'escape' }
    else return this.#end(undefined) // Alt with a key
    return undefined
  }

  #takeParameter(byte: number): Key | undefined {
    const character = String.fromCharCode(byte)
    // The Linux console sends ESC [ [ A for F1, which is not an arrow.
    if (character === '[' && this.#parameters === '') {
      this.#state = 'linux-function-key'
      return undefined
    }
    if (byte === ESCAPE) {
      this.#state = 'escape'
      return { kind: 'unknown' }
    }
    if (byte >= 0x40 && byte <= 0x7e) return this.#end(this.#sequenceKey(character))
    this.#parameters += character
    if (byte < 0x20 || byte > 0x7e || this.#parameters.length > SEQUENCE_LENGTH_MAX) {
      return this.#end(undefined)
    }
    return undefined
  }

  /** What is held down with a key comes behind a semicolon, and makes no difference. */
  #sequenceKey(final: string): NamedKey | undefined {
    const [number = ''] = this.#parameters.split(';')
    if (final === '~') return TILDE_KEYS.get(number)
    return final === 'M' ? undefined : FINAL_KEYS.get(final)
  }

  #end(kind: NamedKey | undefined): Key {
    this.#state = 'ground'
    return { kind: kind ?? 'unknown' }
  }
}
