/** Changes to a store during which it may be killed, and what must hold whatever happens. */
import assert from 'node:assert/strict'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContentStore } from '#server/store/content-store.ts'
import { contentOf, imageOf, storeImage } from '#test/conformance/chunk-store-suite.ts'
import { openStore } from './store-fixture.ts'

const signal = new AbortController().signal
const PIECE_BYTES = 100_000

/** Shares its first part with `IMAGES.second`, its last with `IMAGES.third`. */
const parts = [noise(1, 300_000), noise(2, 200_000), noise(3, 500_000), noise(4, 100_000)] as const
export const IMAGES = {
  first: joined(parts[0], imageOf(7, 100_000), parts[1]),
  second: joined(parts[0], parts[2]),
  third: joined(parts[1], parts[3], imageOf(7, 100_000)),
} as const
export type ImageName = keyof typeof IMAGES

export interface StoreScenario {
  readonly name: string
  /** Images that are in the store before. */
  readonly before: readonly ImageName[]
  /** Makes the store what the scenario begins with. */
  readonly prepare?: (store: ContentStore, folder: string) => Promise<void>
  readonly change: (store: ContentStore) => Promise<unknown>
  /** Images whose version comes or goes by the change… */
  readonly undecided: readonly ImageName[]
  /** … and those that are there when it is done. */
  readonly after: readonly ImageName[]
  /** Images that may be unreadable before and during the change, and are not once it is done. */
  readonly damaged?: readonly ImageName[]
}

export const SCENARIOS: readonly StoreScenario[] = [
  {
    name: 'first import',
    before: [],
    change: (store) => storeImage(store, IMAGES.first, PIECE_BYTES),
    undecided: ['first'],
    after: ['first'],
  },
  {
    name: 'import that shares chunks',
    before: ['first'],
    change: (store) => storeImage(store, IMAGES.second, PIECE_BYTES),
    undecided: ['second'],
    after: ['first', 'second'],
  },
  {
    name: 'import of what is there',
    before: ['first', 'second'],
    change: (store) => storeImage(store, IMAGES.first, PIECE_BYTES),
    undecided: [],
    after: ['first', 'second'],
  },
  {
    name: 'import that is given up',
    before: ['first'],
    change: async (store) => {
      const writer = await store.createVersion()
      await writer.append(IMAGES.second)
      await writer.abort()
    },
    undecided: [],
    after: ['first'],
  },
  {
    name: 'removal of a version',
    before: ['first', 'second'],
    change: async (store) => store.removeVersion(await idOf('first')),
    undecided: ['first'],
    after: ['second'],
  },
  {
    name: 'garbage collection of a dead pack',
    before: ['first', 'second'],
    prepare: async (store) => store.removeVersion(await idOf('second')),
    change: (store) => store.collectGarbage(signal),
    undecided: [],
    after: ['first'],
  },
  {
    name: 'garbage collection that moves chunks',
    before: ['first', 'third'],
    prepare: async (store) => store.removeVersion(await idOf('first')),
    change: (store) => store.collectGarbage(signal),
    undecided: [],
    after: ['third'],
  },
  {
    name: 'import that mends a damaged chunk',
    before: ['first', 'second'],
    prepare: async (_, folder) => flipInPack(folder, 1000),
    change: (store) => storeImage(store, IMAGES.first, PIECE_BYTES),
    undecided: [],
    after: ['first', 'second'],
    damaged: ['first', 'second'],
  },
  {
    name: 'repair of an index',
    before: ['first', 'second'],
    prepare: async (_, folder) => {
      for (const path of await filesIn(folder, '.index')) await flip(path, 100)
    },
    change: (store) => store.check({ readDataShare: 0, repair: true }, () => undefined, signal),
    undecided: [],
    after: ['first', 'second'],
  },
  {
    name: 'repair of places',
    before: ['first', 'second'],
    prepare: async (_, folder) => {
      for (const path of await filesIn(folder, '/places')) await flip(path, 200)
    },
    change: (store) => store.check({ readDataShare: 0, repair: true }, () => undefined, signal),
    undecided: [],
    after: ['first', 'second'],
    damaged: ['first', 'second'],
  },
  {
    name: 'repair of trees and roots',
    before: ['first', 'second'],
    prepare: async (_, folder) => {
      for (const path of await filesIn(folder, '/nodes')) await flip(path, 20)
      for (const path of await filesIn(folder, '/root')) await flip(path, 20)
    },
    change: (store) => store.check({ readDataShare: 0, repair: true }, () => undefined, signal),
    undecided: [],
    after: ['first', 'second'],
    damaged: ['first', 'second'],
  },
]

const ids = new Map<ImageName, string>()

/** Id of an image's version; known once it was stored somewhere. */
export async function idOf(image: ImageName): Promise<string> {
  const id = ids.get(image)
  assert.ok(id !== undefined, `${image} was stored`)
  return id
}

/** Makes the store a scenario begins with. */
export async function prepareStore(folder: string, scenario: StoreScenario): Promise<void> {
  const store = await openStore(folder)
  for (const name of Object.keys(IMAGES) as ImageName[]) {
    if (!scenario.before.includes(name)) continue
    ids.set(name, (await storeImage(store, IMAGES[name], PIECE_BYTES)).versionId)
  }
  await scenario.prepare?.(store, folder)
  await store.close()
}

/**
 * Opens a store that a change to it was interrupted in, and proves that it is whole: all versions are
 * there but those undecided, and give their images; nothing else lies about.
 */
export async function assertWhole(
  folder: string,
  scenario: StoreScenario,
  expected: readonly string[],
  isDone: boolean,
): Promise<void> {
  const store = await openStore(folder)
  try {
    const versions = await store.listVersions()
    const undecided = new Set(scenario.undecided.map((name) => ids.get(name)))
    const after = new Set(scenario.after.map((name) => ids.get(name)))
    if (isDone) assert.deepEqual(new Set(versions), after)
    for (const versionId of expected) {
      assert.ok(undecided.has(versionId) || versions.includes(versionId), 'no version is lost')
    }
    for (const versionId of versions) {
      assert.ok(undecided.has(versionId) || expected.includes(versionId), 'none is half there')
      if (!isDone && mayBeDamaged(scenario, versionId)) continue
      const reader = await store.openVersion(versionId)
      assert.deepEqual(await contentOf(reader), imageWithId(versionId))
      await reader.close()
    }
    if (isDone || scenario.damaged === undefined) await assertSound(store, isDone, scenario)
    await assertTidy(folder)
  } finally {
    await store.close()
  }
}

async function assertSound(store: ContentStore, isDone: boolean, scenario: StoreScenario) {
  const report = await store.check({ readDataShare: 0, repair: false }, () => undefined, signal)
  // Damage that costs no version anything may be there before: that is what the scenario mends.
  const harmful = report.damages.filter(({ versionIds }) => isDone || versionIds.length > 0)
  assert.deepEqual(harmful, [], scenario.name)
}

/** Only packs with their indexes, and versions with their three files. */
async function assertTidy(folder: string): Promise<void> {
  const packs = await readdir(join(folder, 'packs'))
  for (const name of packs) {
    assert.match(name, /^[0-9a-f]{16}\.(pack|index)$/)
    const other = name.endsWith('.pack') ? '.index' : '.pack'
    assert.ok(packs.includes(name.slice(0, 16) + other), `${name} is not alone`)
  }
  for (const version of await readdir(join(folder, 'versions'))) {
    assert.match(version, /^[0-9a-f]{64}$/)
    const files = await readdir(join(folder, 'versions', version))
    assert.deepEqual(files.sort(), ['nodes', 'places', 'root'])
  }
}

function mayBeDamaged({ damaged = [] }: StoreScenario, versionId: string): boolean {
  return damaged.some((name) => ids.get(name) === versionId)
}

function imageWithId(versionId: string): Uint8Array {
  for (const [name, id] of ids) if (id === versionId) return IMAGES[name]
  throw new Error(`no image has version ${versionId}`)
}

export async function rememberId(image: ImageName, store: ContentStore): Promise<void> {
  ids.set(image, (await storeImage(store, IMAGES[image], PIECE_BYTES)).versionId)
}

/** Turns one bit of a file over. */
export async function flip(path: string, positionBytes: number): Promise<void> {
  await using file = await open(path, 'r+')
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, positionBytes)
  byte[0] = (byte[0] ?? 0) ^ 0x10
  await file.write(byte, 0, 1, positionBytes)
}

/** Damages data in the largest pack. */
export async function flipInPack(folder: string, positionBytes: number): Promise<void> {
  const packs = await filesIn(folder, '.pack')
  const sizes = await Promise.all(packs.map(async (path) => (await stat(path)).size))
  const largest = packs[sizes.indexOf(Math.max(...sizes))]
  assert.ok(largest !== undefined)
  await flip(largest, positionBytes)
}

/** Files of a store whose path ends so, in order. */
export async function filesIn(folder: string, ending: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const paths = files.map(({ parentPath, name }) => join(parentPath, name))
  return paths.filter((path) => path.endsWith(ending)).sort()
}

/** Bytes that nothing compresses, the same for the same seed. */
export function noise(seed: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  let state = seed * 2_654_435_761
  for (let at = 0; at < sizeBytes; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}

function joined(...pieces: readonly Uint8Array[]): Uint8Array {
  // Pieces begin on blocks, so that what is the same is cut the same.
  const padded = pieces.map((piece) => Buffer.concat([piece, Buffer.alloc(-piece.length & 4095)]))
  return new Uint8Array(Buffer.concat(padded))
}
