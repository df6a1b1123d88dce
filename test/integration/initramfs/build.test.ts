/** What `npm run initramfs` packs, unpacked as the kernel would; test/e2e boots it. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises'
import { createRequire, isBuiltin } from 'node:module'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { AGENT_IMAGE, ensureAgentImage } from '#test/support/agent-image.ts'
import { runProgram, runScript } from '#test/support/child-run.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

/** Compressing Node as well as it goes takes a minute, once. */
const TIMEOUT = { timeout: 280_000 }

const ROOT = join(import.meta.dirname, '../../..')
const AGENT_FOLDER = 'usr/lib/bootwire/agent'

/** Begins a frame of zstd (RFC 8878 §3.1.1). */
const ZSTD_MAGIC = Buffer.of(0x28, 0xb5, 0x2f, 0xfd)

describe('the initramfs', TIMEOUT, () => {
  let temporary: TemporaryFolder
  let tree: string
  const path = (name: string) => join(tree, name)

  before(async () => {
    temporary = await createTemporaryFolder()
    tree = join(temporary.path, 'tree')
    await mkdir(tree)
    await unpack(await readFile(await ensureAgentImage()))
  })
  after(async () => {
    await temporary[Symbol.asyncDispose]()
  })

  /** Both archives, one over the other; zeros between them are skipped. */
  async function unpack(image: Buffer): Promise<void> {
    const begin = image.lastIndexOf(ZSTD_MAGIC)
    assert.ok(begin > 0 && begin % 4 === 0, 'the kernel looks for archives at multiples of 4')
    for (const archive of [image.subarray(0, begin), image.subarray(begin)]) {
      await writeFile(join(temporary.path, 'archive'), archive)
      // zstd complains of the zeros at the end, where the kernel stops.
      await runScript(
        'cd "$1"; (zstd -qdc ../archive 2>/dev/null || true) | cpio --extract --quiet -d',
        [tree],
      )
    }
  }

  it('has what the kernel, the scripts and the agent ask for, and no other file of ours', async () => {
    const programs = ['init', 'shutdown', 'usr/bin/node', 'usr/bin/busybox', 'usr/bin/tc']
    const scripts = [
      'network.sh',
      'agent-network.sh',
      'udhcpc.sh',
      'keep-network.sh',
      'keep-root.sh',
      'coldplug.sh',
      'start-agent.sh',
    ]
    const paths = [
      ...programs,
      'usr/bin/bootwire-supervisor',
      ...scripts.map((name) => `usr/lib/bootwire/${name}`),
    ]
    for (const name of paths) {
      const { mode, uid, gid } = await stat(path(name))
      assert.equal(mode & 0o111, 0o111, `${name} can be run`)
      assert.deepEqual([uid, gid], [0, 0], name)
    }
    assert.deepEqual((await readdir(path(AGENT_FOLDER))).toSorted(), [
      'bootwire-agent.cjs',
      'hot-overlay.cjs',
      'main.cjs',
      'reply-worker.cjs',
      'transmission-worker.cjs',
    ])
    for (const folder of ['proc', 'sys', 'dev', 'run', 'newroot', 'oldroot', 'tmp', 'etc']) {
      assert.deepEqual(await readdir(path(folder)), [], folder)
    }
    assert.equal(await readlink(path('bin')), 'usr/bin')
    assert.equal(await readlink(path('lib64')), 'usr/lib64')
    await assert.rejects(stat(path('usr/lib/modules')), { code: 'ENOENT' })
  })

  it('names the packages of what is missing to build it', async () => {
    const script = join(ROOT, 'initramfs/build.ts')
    const building = runProgram('env', ['PATH=/nowhere', process.execPath, script])
    await assert.rejects(building, /apt install busybox-static .*gcc libc6-dev/)
  })

  it('is the same byte for byte when it is built again', async () => {
    const hashes: string[] = []
    for (let builds = 0; builds < 2; builds += 1) {
      await runProgram(process.execPath, [join(ROOT, 'initramfs/build.ts')], { cwd: ROOT })
      hashes.push(
        createHash('sha256')
          .update(await readFile(AGENT_IMAGE))
          .digest('hex'),
      )
    }
    assert.equal(hashes[0], hashes[1])
    const left = (await readdir(join(AGENT_IMAGE, '..'))).filter((it) => it.startsWith('build-'))
    assert.deepEqual(left, [])
  })

  it('has a busybox and a supervisor that need no libraries, and all libraries of Node and tc', async () => {
    await inside('/usr/bin/busybox', ['true'])
    const version = await inside('/usr/bin/node', ['--version'])
    assert.equal(version.trim(), process.version)
    assert.match(await inside('/usr/bin/tc', ['-Version']), /iproute2/)
    const usage = await inside('/usr/bin/busybox', [
      'sh',
      '-c',
      'bootwire-supervisor 2>&1 || echo "status $?"',
    ])
    assert.match(usage, /usage: bootwire-supervisor/)
    assert.match(usage, /^status 2$/m)
  })

  it('has bundles that ask for no module but what Node brings', async () => {
    for (const name of await readdir(path(AGENT_FOLDER))) {
      const source = await readFile(path(join(AGENT_FOLDER, name)), 'utf8')
      const asked = [...source.matchAll(/\brequire\("([^"]+)"\)/g)].map(([, module = '']) => module)
      const missing = asked.filter((module) => !isBuiltin(module))
      // Speeds up what the agent never does; msgpackr goes without it.
      assert.deepEqual(
        new Set([...missing, 'msgpackr-extract']),
        new Set(['msgpackr-extract']),
        name,
      )
    }
  })

  it('has a hot device that workers can load by itself', () => {
    const module: unknown = createRequire(import.meta.url)(
      path(join(AGENT_FOLDER, 'hot-overlay.cjs')),
    )
    assert.ok(module instanceof Object && 'openHotDevice' in module)
  })

  it('has an agent that says what is missing when it was not booted by a server', async () => {
    const script = `
      mount -t proc proc "$1/proc"
      chroot "$1" /usr/bin/node /${AGENT_FOLDER}/main.cjs 2>&1
      cat "$1/run/bootwire/failed"`
    const said = await runProgram('unshare', ['--mount', 'sh', '-euc', script, 'sh', tree])
    assert.match(said, /Cannot start: the kernel parameter bootwire\.servers= is missing$/m)
    assert.match(said, /^BW-E406 .*\n {2}Correct the named bootwire\.\* kernel parameter/m)
    assert.doesNotMatch(said, /Cannot find module/)
  })

  async function inside(program: string, args: readonly string[]): Promise<string> {
    return await runProgram('chroot', [tree, program, ...args])
  }
})
