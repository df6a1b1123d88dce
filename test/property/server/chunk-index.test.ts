/** The index of chunks against a list. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { ChunkIndex } from '#server/store/packs/chunk-index.ts'

/** Few words, so that slots and whole hashes collide. */
const word = fc.oneof(fc.nat(7), fc.nat(5000), fc.constantFrom(0, 0xffff_ffff, 0x1_0003))
const change = fc.record({
  kind: fc.constantFrom('add', 'add', 'add', 'drop'),
  first: word,
  second: word,
  pack: fc.constantFrom('a', 'b', 'c'),
  offset: fc.nat(3),
})

interface Entry {
  readonly first: number
  readonly second: number
  readonly pack: string
  readonly offset: number
}

it('ChunkIndex finds what was added and not dropped, in packs that may be used', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 2500, size: 'max' }), (changes) => {
      const index = new ChunkIndex<string>()
      let model: Entry[] = []
      for (const { kind, ...entry } of changes) {
        const { first, second } = entry
        if (kind === 'add') {
          index.add(first, second, entry)
          model.push(entry)
        } else {
          index.drop(first, second, entry)
          const at = model.findIndex((other) => isSame(entry, other))
          if (at >= 0) model = model.toSpliced(at, 1)
        }
      }
      for (const { first, second } of changes) {
        for (const refused of ['', 'a']) {
          const found = index.find(first, second, (pack) => pack !== refused)
          const usable = model.filter((it) => isAlike(it, first, second) && it.pack !== refused)
          assert.equal(found === undefined, usable.length === 0)
          if (found === undefined) continue
          assert.ok(
            usable.some(({ pack, offset }) => pack === found.pack && offset === found.offset),
          )
        }
      }
    }),
    { numRuns: 10 },
  )
})

it('ChunkIndex has at most 25 bytes for a chunk, however many there are', () => {
  for (const count of [100_000, 250_000, 524_288, 900_000]) {
    const index = new ChunkIndex<string>()
    for (let at = 0; at < count; at += 1) {
      index.add(Math.imul(at, 2_654_435_761) >>> 0, at, { pack: 'a', offset: at })
    }
    assert.equal(index.count, count)
    assert.ok(index.memoryBytes <= 25 * count, `${index.memoryBytes / count} bytes`)
  }
})

function isSame(a: Entry, b: Entry): boolean {
  return isAlike(a, b.first, b.second) && a.pack === b.pack && a.offset === b.offset
}

/** 48 bits are compared. */
function isAlike({ first, second }: Entry, otherFirst: number, otherSecond: number): boolean {
  return first === otherFirst && (second & 0xffff) === (otherSecond & 0xffff)
}
