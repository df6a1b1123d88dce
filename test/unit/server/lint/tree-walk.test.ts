import assert from 'node:assert/strict'
import { rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { trailsOf } from '#server/lint/path-pattern.ts'
import { TreeWalk, WALK_LIMITS } from '#server/lint/tree-walk.ts'
import { plant } from '#test/support/planted-secrets.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const { signal } = new AbortController()

function walkOf(root: string, ...patterns: string[]): TreeWalk<string> {
  const trails = patterns.flatMap((pattern) => trailsOf(pattern, pattern))
  return new TreeWalk({ root, at: '' }, trails, WALK_LIMITS)
}

describe('TreeWalk', () => {
  it('gives files near the root first, each once, with all whose patterns match', async () => {
    await using image = await createTemporaryFolder()
    for (const path of ['a/x', 'a/b/x', 'a/b/c/x', 'y', 'a/b/y'])
      await plant(image.path, path, path)
    const found: [string, readonly string[], string | undefined][] = []
    for await (const { path, owners, read } of walkOf(image.path, '/a/**/x', '/a/b/*').files(
      signal,
    )) {
      found.push([path, owners, (await read(3))?.toString()])
    }
    const [first, ...others] = found
    assert.deepEqual(first, ['/a/x', ['/a/**/x'], 'a/x'])
    assert.deepEqual(others.at(-1), ['/a/b/c/x', ['/a/**/x'], 'a/b'])
    assert.deepEqual(
      others.slice(0, -1).sort(([a], [b]) => (a < b ? -1 : 1)),
      [
        ['/a/b/x', ['/a/**/x', '/a/b/*'], 'a/b'],
        ['/a/b/y', ['/a/b/*'], 'a/b'],
      ],
    )
  })

  it('does not follow a link that a folder or a file becomes meanwhile', async () => {
    await using temporary = await createTemporaryFolder()
    const [image, outside] = [join(temporary.path, 'image'), join(temporary.path, 'outside')]
    await plant(outside, 'secret', 'of the server')
    await plant(image, 'first', 'of the image')
    await plant(image, 'folder/secret', 'of the image')
    const exchange = async (path: string, target: string) => {
      await rename(join(image, path), join(temporary.path, path))
      await symlink(target, join(image, path))
    }
    const walk = walkOf(image, '/first', '/folder/secret')
    const read: (string | undefined)[] = []
    for await (const file of walk.files(signal)) {
      await exchange('first', join(outside, 'secret'))
      await exchange('folder', outside)
      read.push((await file.read(100))?.toString())
    }
    assert.deepEqual(read, [undefined])
    assert.deepEqual(walk.incomplete(), ['Files and folders that could not be read: 2'])
  })

  it('finds names that are no UTF-8', async () => {
    await using image = await createTemporaryFolder()
    await plant(image.path, 'home/x', '')
    const folder = Buffer.concat([Buffer.from(join(image.path, 'home/')), Buffer.of(0xff, 0x61)])
    await rename(join(image.path, 'home/x'), folder)
    const paths: string[] = []
    for await (const { path } of walkOf(image.path, '/home/*').files(signal)) paths.push(path)
    assert.deepEqual(paths, ['/home/\ufffda'])
  })
})
