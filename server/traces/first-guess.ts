/**
 * What a boot will probably read, guessed by a look at the files alone: what every Linux system with
 * systemd reads, in its order, with the libraries its programs are linked to and the programs of the
 * units that are enabled. Only until the first boot tells.
 *
 * Measured on recorded boots: of a minimal Debian it finds 68 to 74 % of the chunks a boot reads, 80 to
 * 85 % of the bytes, and 4 of its 13.6 MB are not read; of a desktop, which reads five times as much, 18 %
 * with 3.5 MB too many.
 */
import type { ChunkTable } from '#server/store/chunk-store.ts'
import { MiB } from '#shared/units.ts'
import type { RootFiles } from './compared-version.ts'
import { elfNeeds } from './elf.ts'
import type { MappedFile } from './file-map.ts'
import { parentOf, RootTree } from './root-tree.ts'

/** Of stored bytes: what is guessed wrongly shall not be missed by the boot. */
const GUESS_BYTES_MAX: number = 24 * MiB

/** Of larger files only the beginning is read at boot, if anything. */
const FILE_BYTES_MAX: number = 12 * MiB

const LIBRARY_FOLDERS = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
]

const UNIT_FOLDERS = ['/etc/systemd/system', '/usr/lib/systemd/system']

/** Programs that units and udev's rules call, as far as they are there. */
const PROGRAMS = [
  '/usr/lib/systemd/systemd-executor',
  '/usr/lib/systemd/systemd-journald',
  '/usr/bin/udevadm',
  '/usr/bin/kmod',
  '/usr/bin/mount',
  '/usr/bin/systemctl',
  '/usr/bin/systemd-tmpfiles',
  '/usr/bin/systemd-sysusers',
  '/usr/lib/systemd/systemd-logind',
  '/usr/bin/dbus-daemon',
  '/usr/bin/dbus-broker-launch',
  '/usr/bin/dash',
  '/usr/bin/bash',
  '/usr/sbin/agetty',
  '/usr/bin/login',
  '/usr/sbin/sshd',
]

/** Modules that most machines load from the root, below /lib/modules/RELEASE/kernel. */
const MODULES = [
  'fs/autofs/autofs4.ko',
  'fs/fuse/fuse.ko',
  'fs/configfs/configfs.ko',
  'fs/efivarfs/efivarfs.ko',
  'drivers/block/loop.ko',
  'drivers/md/dm-mod.ko',
  'drivers/input/evdev.ko',
  'drivers/acpi/button.ko',
  'net/netfilter/x_tables.ko',
  'net/ipv4/netfilter/ip_tables.ko',
]

/** Returns first blocks of chunks, in the order in which they will be wanted. */
export async function guessBoot(
  { files, fileSystem }: RootFiles,
  chunks: ChunkTable,
  kernelRelease: string | undefined,
): Promise<number[]> {
  const guess = new Guess(new RootTree(files, fileSystem), chunks)
  guess.addBlocks(files.metadataBlocks)
  await guess.addProgram('/sbin/init')
  guess.addFile('/etc/ld.so.cache')
  for (const path of guess.tree.list('/usr/lib/systemd/system-generators')) {
    await guess.addProgram(path)
  }
  const units = await addUnits(guess)
  for (const folder of ['/usr/lib/modules', '/lib/modules'])
    addModules(guess, folder, kernelRelease)
  for (const path of PROGRAMS) await guess.addProgram(path)
  guess.addFile('/usr/lib/udev/hwdb.bin')
  guess.addFolder('/usr/lib/udev/rules.d')
  guess.addFolder('/usr/lib/tmpfiles.d')
  guess.addFolder('/etc', { smallOnly: true })
  for (const folder of ['/etc/pam.d', '/etc/security', '/etc/udev/rules.d']) guess.addFolder(folder)
  for (const path of units) await guess.addProgram(path)
  return guess.positions
}

/** Reads what systemd reads of its units; returns the programs of those that are enabled. */
async function addUnits(guess: Guess): Promise<string[]> {
  const programs = new Set<string>()
  for (const folder of UNIT_FOLDERS) guess.addFolder(folder)
  for (const folder of UNIT_FOLDERS) {
    const wanted = guess.tree.list(folder).filter((path) => /\.(wants|requires)$/.test(path))
    const enabled = wanted.flatMap((path) => guess.tree.list(path))
    for (const unit of [...enabled, `${folder}/display-manager.service`]) {
      guess.addFile(unit)
      for (const program of programsOf(await guess.tree.text(unit))) programs.add(program)
    }
  }
  return [...programs]
}

/** `ExecStart=-/usr/sbin/sshd -D`: a path behind signs that systemd understands. */
function programsOf(unit: string): string[] {
  const lines = unit.matchAll(/^Exec(?:Start|StartPre|Condition)=[-@:+!|]*(?<path>\/[^\s]+)/gm)
  return [...lines].map(({ groups }) => groups?.['path'] ?? '')
}

function addModules(guess: Guess, folder: string, release: string | undefined): void {
  if (release === undefined) return
  for (const index of ['softdep', 'dep.bin', 'alias.bin', 'symbols.bin', 'builtin.bin']) {
    guess.addFile(`${folder}/${release}/modules.${index}`)
  }
  for (const module of MODULES) guess.addFile(`${folder}/${release}/kernel/${module}`)
}

class Guess {
  readonly tree: RootTree
  readonly #chunks: ChunkTable
  readonly #found = new Set<number>()
  #storedBytes = 0
  readonly #linked = new Set<string>()

  constructor(tree: RootTree, chunks: ChunkTable) {
    this.tree = tree
    this.#chunks = chunks
  }

  get positions(): number[] {
    return [...this.#found].map((index) => this.#chunks.firstBlock(index))
  }

  addBlocks(blocks: Iterable<number>): void {
    for (const block of blocks) {
      const index = this.#chunks.indexAt(block)
      if (index < 0 || this.#found.has(index)) continue
      const storedBytes = this.#chunks.storedBytes(index)
      if (this.#storedBytes + storedBytes > GUESS_BYTES_MAX) return
      this.#storedBytes += storedBytes
      this.#found.add(index)
    }
  }

  /** With all that is read on the way to it. */
  addFile(path: string): MappedFile | undefined {
    const trail = this.tree.trail(path)
    for (const file of trail) {
      this.addBlocks([file.inodeBlock])
      if (file.kind !== 'file' || file.sizeBytes <= FILE_BYTES_MAX) this.addBlocks(file.blocks)
    }
    return trail.at(-1)
  }

  /** The files of a folder, not those of folders in it. */
  addFolder(path: string, { smallOnly = false }: { readonly smallOnly?: boolean } = {}): void {
    this.addFile(path)
    for (const child of this.tree.list(path)) {
      const file = this.tree.find(child)
      if (file?.kind === 'file' && !(smallOnly && file.sizeBytes > MiB)) this.addFile(child)
    }
  }

  /** A program, its loader and its libraries, and theirs. */
  async addProgram(path: string): Promise<void> {
    const file = this.addFile(path)
    if (file?.kind !== 'file' || this.#linked.has(file.path)) return
    this.#linked.add(file.path)
    const needs = await elfNeeds((offset, length) => this.tree.read(file, offset, length))
    if (needs === undefined) return
    if (needs.interpreter !== undefined) await this.addProgram(needs.interpreter)
    const origin = parentOf(file.path)
    const runPath = needs.runPath.map((folder) => folder.replaceAll('$ORIGIN', origin))
    for (const library of needs.libraries) {
      const folder = [...runPath, ...LIBRARY_FOLDERS].find((folder) => {
        return this.tree.find(`${folder}/${library}`)?.kind === 'file'
      })
      if (folder !== undefined) await this.addProgram(`${folder}/${library}`)
    }
  }
}
