/** The saved corpus of frames that are wrong: lines of a name and bytes in hex, below test/golden/hostile. */
import { readFileSync } from 'node:fs'

const FOLDER = new URL('../golden/hostile/', import.meta.url)

export interface HostileFrame {
  readonly name: string
  readonly bytes: Buffer
}

export function readHostileFrames(file: 'control-frames' | 'websocket-frames'): HostileFrame[] {
  return readFileSync(new URL(`${file}.txt`, FOLDER), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name = '', ...hex] = line.split(' ')
      return { name, bytes: Buffer.from(hex.join(''), 'hex') }
    })
}
