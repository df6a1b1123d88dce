import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { ImageLint, isSearched, LINT_LIMITS, type LintLimits } from '#server/lint/image-lint.ts'
import { hasSecrets, type LintReport } from '#server/lint/lint-report.ts'
import { LINT_RULES } from '#server/lint/lint-rules.ts'
import { HARMLESS, PLANTED, plant, plantSecrets, SECRET } from '#test/support/planted-secrets.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

/** A key, as short as one can be. */
const KEY = `-----BEGIN PRIVATE KEY-----\n${SECRET}\n`

describe('ImageLint', () => {
  let temporary: TemporaryFolder
  let image: string

  beforeEach(async () => {
    temporary = await createTemporaryFolder()
    image = join(temporary.path, 'image')
    await mkdir(image)
  })
  afterEach(() => temporary[Symbol.asyncDispose]())

  const lintAt = async (at: string, limits: Partial<LintLimits> = {}): Promise<LintReport> => {
    const lint = new ImageLint({ ...LINT_LIMITS, ...limits })
    await lint.search({ root: image, at }, new AbortController().signal)
    return lint.report()
  }
  const lintIt = async (limits: Partial<LintLimits> = {}) => await lintAt('', limits)

  it('finds everything that was planted, and calls it by its kind', async () => {
    await plantSecrets(image)
    const report = await lintIt()
    for (const { path, kind, detail } of PLANTED) {
      assert.deepEqual(foundIn(report, path), [[kind, detail]], path)
    }
    const { length } = pathsIn(report)
    assert.equal(length, PLANTED.length)
    assert.deepEqual(report.incomplete, [])
    assert.ok(hasSecrets(report))
  })

  it('never shows a secret', async () => {
    await plantSecrets(image)
    assert.ok(!JSON.stringify(await lintIt()).includes(SECRET.slice(0, 8)))
  })

  it('finds nothing where there is nothing', async () => {
    for (const [path, content] of Object.entries(HARMLESS)) await plant(image, path, content)
    assert.deepEqual(await lintIt(), { findings: [], incomplete: [] })
  })

  it('tells secrets first, and of each kind what to do', async () => {
    await plantSecrets(image)
    const { findings } = await lintIt()
    const order = findings.map(({ severity }) => ['secret', 'identity', 'hint'].indexOf(severity))
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
    )
    assert.ok(findings.every(({ what, action, places }) => what && action && places.length > 0))
  })

  it('looks at a file system where the image has it', async () => {
    await plant(image, 'ann/.bash_history', 'ls')
    await plant(image, 'shadow', 'root:$6$a$b:1\n')
    assert.deepEqual(pathsIn(await lintAt('/home')), ['/home/ann/.bash_history'])
    assert.deepEqual(pathsIn(await lintAt('/etc')), ['/etc/shadow'])
    assert.deepEqual(pathsIn(await lintAt('/srv')), [])
    assert.ok(isSearched('/home') && isSearched('/var') && isSearched('/home/ann/files'))
    assert.ok(!isSearched('/srv') && !isSearched('/boot/efi'))
  })

  it('is not led out of the image by links', async () => {
    const outside = join(temporary.path, 'outside')
    await plant(outside, 'id_rsa', KEY)
    await plant(outside, 'ssh_host_rsa_key', KEY)
    await plant(image, 'etc/x', '')
    await mkdir(join(image, 'home/ann'), { recursive: true })
    await symlink(outside, join(image, 'etc/ssh'))
    await symlink('../../../outside', join(image, 'home/ann/.ssh'))
    await symlink(join(outside, 'id_rsa'), join(image, 'etc/shadow'))
    await symlink(outside, join(image, 'root'))
    await symlink('.', join(image, 'etc/loop'))
    await symlink('..', join(image, 'home/ann/up'))
    assert.deepEqual(await lintIt(), { findings: [], incomplete: [] })
  })

  it('passes pipes, devices and folders by', async () => {
    await mkdir(join(image, 'etc/ssh/ssh_host_rsa_key'), { recursive: true })
    await mkdir(join(image, 'root/.ssh'), { recursive: true })
    await promisify(execFile)('mkfifo', [join(image, 'root/.ssh/id_pipe')])
    await symlink('/dev/zero', join(image, 'root/.ssh/id_zero'))
    assert.deepEqual(await lintIt(), { findings: [], incomplete: [] })
  })

  it('spells out control characters and cuts long paths', async () => {
    await plant(image, 'root/.ssh/id_\u001b[2J\n', KEY)
    await plant(image, `root/.ssh/id_${'x'.repeat(240)}`, KEY)
    await plant(image, 'etc/shadow', `a\u0007${'b'.repeat(99)}:$6$a$b:1\n`)
    const report = await lintIt()
    const [control, long] = pathsIn(report).filter((path) => path.startsWith('/root'))
    assert.equal(control, '/root/.ssh/id_\\x1b[2J\\x0a')
    assert.ok(long?.endsWith('x…') && long.length < 200, long)
    assert.match(foundIn(report, '/etc/shadow')[0]?.[1] ?? '', /^a\\x07b{30}$/)
  })

  it('names a bounded number of accounts', async () => {
    const lines = Array.from({ length: 100 }, (_, n) => `user${n}:$6$a$b:1`)
    await plant(image, 'etc/shadow', lines.join('\n'))
    assert.match(foundIn(await lintIt(), '/etc/shadow')[0]?.[1] ?? '', /^user0, .* and 92 others$/)
  })

  it('lists a bounded number of places and counts the others', async () => {
    for (let n = 0; n < 7; n += 1) await plant(image, `root/.ssh/id_${n}`, KEY)
    const [finding] = (await lintIt({ placesMax: 3 })).findings
    assert.deepEqual(
      finding?.places.map(({ path }) => path.at(-1)),
      ['0', '1', '2'],
    )
    assert.equal(finding?.more, 4)
  })

  it('says when a folder, the tree, a file or all of it is cut', async () => {
    for (let n = 0; n < 30; n += 1) await plant(image, `etc/${n}`, 'x'.repeat(2000))
    await plant(image, 'etc/deep/er/still/x', KEY)
    await plant(image, 'etc/shadow', `${'#\n'.repeat(3000)}root:$6$a$b:1\n`)
    const incomplete = async (limits: Partial<LintLimits>) => (await lintIt(limits)).incomplete
    assert.deepEqual(await incomplete({}), [])
    assert.deepEqual(await incomplete({ folderEntriesMax: 10 }), [
      'Folders of which only the first 10 entries were looked at: 1',
    ])
    assert.deepEqual(await incomplete({ entriesMax: 10 }), [
      'Only the first 10 files and folders were looked at',
    ])
    assert.deepEqual(await incomplete({ depthMax: 3 }), [
      'Folders more than 3 deep were not looked at',
    ])
    assert.deepEqual(await incomplete({ timeMsMax: 0 }), ['The search took too long and was ended'])
    assert.deepEqual(await incomplete({ fileBytesMax: 1024 }), [
      'Files of which only the first 1 KiB were read: 1',
    ])
    assert.match(
      (await incomplete({ totalBytesMax: 10_000 })).join(),
      /^Files that were not read, since .* MiB had been: \d+$/,
    )
  })

  it('ends when it is canceled', async () => {
    await plantSecrets(image)
    const lint = new ImageLint()
    const canceled = AbortSignal.abort(new Error('Ctrl-C'))
    await assert.rejects(lint.search({ root: image, at: '' }, canceled), /Ctrl-C/)
  })

  it('leaves no descriptor open', async () => {
    const count = async () => (await readdir('/proc/self/fd')).length
    await plantSecrets(image)
    await lintIt()
    const before = await count()
    await lintIt()
    await lintIt({ entriesMax: 5 })
    assert.equal(await count(), before)
  })
})

it('LINT_RULES have something planted for each of their kinds', () => {
  const kinds = new Set(PLANTED.map(({ kind }) => kind))
  assert.deepEqual(
    LINT_RULES.filter(({ kind }) => !kinds.has(kind)).map(({ kind }) => kind),
    [],
  )
})

function pathsIn({ findings }: LintReport): string[] {
  return findings.flatMap(({ places }) => places.map(({ path }) => path)).sort()
}

function foundIn({ findings }: LintReport, path: string): [kind: string, detail?: string][] {
  return findings.flatMap(({ kind, places }) =>
    places
      .filter((place) => place.path === path)
      .map(({ detail }) => [kind, detail] as [string, string?]),
  )
}
