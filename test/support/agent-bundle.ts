/** The agent of the benches in files as the initramfs has them: CommonJS, each with all that it needs. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'

const ROOT = join(import.meta.dirname, '../..')

const WORKERS = [
  'agent/block/hot-overlay.ts',
  'agent/node-nbd/transmission-worker.ts',
  'agent/node-nbd/reply-worker.ts',
]

let built: Promise<string> | undefined

/** Returns the folder of what the benches' own agent consists of, which goes with this process. */
export async function agentBundle(): Promise<string> {
  built ??= buildBundle()
  return await built
}

async function buildBundle(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'bootwire-agent-bundle-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  await bundleInto(folder, 'test/bench/agent-process.ts')
  return folder
}

/** As initramfs/build.ts does it: the program and what its workers load. */
export async function bundleInto(folder: string, program: string): Promise<void> {
  await build({
    absWorkingDir: ROOT,
    entryPoints: [program, ...WORKERS],
    entryNames: '[name]',
    outdir: folder,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    external: ['msgpackr-extract'],
    logLevel: 'warning',
    logOverride: { 'empty-import-meta': 'silent' },
  })
}
