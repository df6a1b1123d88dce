import assert from 'node:assert/strict'
import { lstat, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ImageLint } from '#server/lint/image-lint.ts'
import { LINT_RULES } from '#server/lint/lint-rules.ts'
import { step, trailsBelow, trailsOf } from '#server/lint/path-pattern.ts'
import { KiB } from '#shared/units.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const HEAD_BYTES = 64 * KiB

/** All rules take some ms for a text; one that goes over it again and again takes many seconds. */
const QUICK_MS = 1500

const SIGNS = LINT_RULES.flatMap(({ signs }) => signs)

describe('LINT_RULES', () => {
  it('are through with any text in a time that grows with its length', () => {
    const pieces = [
      ' ',
      '\n',
      '\t\n',
      'a:',
      'a',
      '::',
      '$',
      '$6$',
      '!',
      '-----BEGIN ',
      '-----BEGIN A ',
      '-----BEGIN PRIVATE KEY-----\n',
      '-----BEGIN PRIVATE KEY-----\\n ',
      '://a',
      '://a:',
      'password ',
      'password\t',
      'psk',
      'psk=',
      'a-',
      '"auth" ',
      'token:',
      'SAE-',
      '#',
    ]
    for (const [head, tail] of pieces.flatMap((a) => pieces.map((b) => [a, b] as const))) {
      const text = (head + tail.repeat(HEAD_BYTES / tail.length)).slice(0, HEAD_BYTES)
      const file = { bytes: Buffer.from(`PRIVATE KEY${text}`), text }
      const beganMs = performance.now()
      for (const { isFound } of SIGNS) isFound(file)
      assert.ok(performance.now() - beganMs < QUICK_MS, JSON.stringify([head, tail]))
    }
  })

  it('take any bytes for what they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (array) => {
        const bytes = Buffer.from(array)
        for (const { isFound } of SIGNS) {
          const detail = isFound({ bytes, text: bytes.toString() })
          assert.ok(detail === undefined || !/[\u0000-\u001f\u007f]/.test(detail)) // oxlint-disable-line no-control-regex
        }
      }),
    )
  })
})

describe('path patterns', () => {
  const name = fc.constantFrom('a', 'b', 'ab', 'a.b', '.a')
  const part = fc.oneof(name, fc.constantFrom('*', '**', 'a*', '*b', '*.*'))

  it('match as the same pattern does as a regular expression', () => {
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 4 }),
        fc.constantFrom('*', 'a', '*b'),
        fc.array(name, { minLength: 1, maxLength: 6 }),
        (folders, file, names) => {
          const expression = [...folders, file]
            .map((it) =>
              it === '**'
                ? '(?:/[^/]+)*'
                : `/${it.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}`,
            )
            .join('')
          const trails = trailsOf('it', `/${[...folders, file].join('/')}`)
          const above = names.slice(0, -1).map((it) => `/${it}`)
          const found = step(trailsBelow(trails, above.join('')), names.at(-1) ?? '').owners
          const expected = new RegExp(`^${expression}$`).test(`/${names.join('/')}`)
          assert.equal(found.length, expected ? 1 : 0)
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('ImageLint', () => {
  /** Where a link may stand or lead. */
  const place = fc.constantFrom(
    'etc',
    'etc/ssh',
    'root',
    'root/.ssh',
    'home',
    'home/a',
    'home/a/.ssh',
    'home/a/.ssh/id_x',
    'etc/ssh/ssh_host_x_key',
    'etc/shadow',
    'var/lib/iwd',
  )
  const target = fc.oneof(
    place.map((it) => `/${it}`),
    fc.constantFrom(
      '.',
      '..',
      '../..',
      '/',
      '/proc/self',
      'OUTSIDE',
      'OUTSIDE/id_x',
      '../../../outside',
    ),
  )

  it('ends, and finds nothing that lies outside, whatever links there are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(place, target), { maxLength: 12 }), async (links) => {
        await using temporary = await createTemporaryFolder()
        const [image, outside] = [join(temporary.path, 'image'), join(temporary.path, 'outside')]
        await mkdir(image)
        await mkdir(outside)
        for (const name of ['id_x', 'ssh_host_x_key', 'x.psk', 'shadow']) {
          await writeFile(join(outside, name), 'root:$6$a$b:1\nPassphrase=x\n')
        }
        for (const [path, to] of links) {
          const link = join(image, path)
          try {
            // Not through a link that is there already: it would be made outside.
            await mkdirInside(image, dirname(path))
            await symlink(to.replace('OUTSIDE', outside), link)
          } catch {
            continue
          }
        }
        const lint = new ImageLint()
        await lint.search({ root: image, at: '' }, new AbortController().signal)
        assert.deepEqual(lint.report(), { findings: [], incomplete: [] })
      }),
      { numRuns: 60 },
    )
  })
})

async function mkdirInside(root: string, path: string): Promise<void> {
  let folder = root
  for (const name of path.split('/')) {
    folder = join(folder, name)
    await mkdir(folder).catch(async (error: unknown) => {
      if (!(await lstat(folder)).isDirectory()) throw error
    })
  }
}
