/**
 * A conversation in test/golden/nbd: lines `> BYTES # what the client says` and `< BYTES # what the
 * server answers`. Bytes are hexadecimal; `00*512` is a run of one byte.
 */
import { readFileSync } from 'node:fs'

export interface GoldenTurn {
  readonly who: 'client' | 'server'
  readonly bytes: Buffer
  readonly note: string
}

export function readGolden(name: string): GoldenTurn[] {
  const text = readFileSync(new URL(`../golden/nbd/${name}.txt`, import.meta.url), 'utf8')
  const lines = text.split('\n').filter((line) => /^[<>] /.test(line))
  return lines.map((line) => {
    const [, who, words = '', note = ''] = /^([<>]) (.*?) *# (.*)$/.exec(line) ?? []
    const bytes = Buffer.concat(words.split(' ').filter(Boolean).map(decodeWord))
    return { who: who === '>' ? 'client' : 'server', bytes, note }
  })
}

function decodeWord(word: string): Buffer {
  const [hex = '', count] = word.split('*')
  return count === undefined ? Buffer.from(hex, 'hex') : Buffer.alloc(Number(count), hex, 'hex')
}
