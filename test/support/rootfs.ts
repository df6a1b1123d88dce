/**
 * A real system to stream: this machine's own distribution, if no other is said, freshly installed by mmdebstrap into a
 * tar file, once. Needs root.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { GiB } from '#shared/units.ts'
import { type SourcesFile, transportSettings } from './apt-sources.ts'
import { CACHE_FOLDER, ensureBuilt, recipeKey } from './build-cache.ts'
import { runProgram } from './child-run.ts'
import type { HostSystem } from './host-system.ts'
import { hostRelease, type Release } from './releases.ts'

export interface Rootfs {
  readonly system: HostSystem
  /** `debian-12`: for people. */
  readonly name: string
  /** Holds everything made of this system; its name changes with the recipe. */
  readonly folder: string
  readonly tarPath: string
}

/** systemd with what a person expects of a console: hostnamectl needs dbus; ps and free are in procps. */
const PACKAGES = ['systemd-sysv', 'udev', 'dbus', 'login', 'iproute2', 'kmod', 'procps']

/** Manuals and translations: a third of a minimal system that nobody reads here. */
const LEFT_OUT = ['/usr/share/man/*', '/usr/share/locale/*', '/usr/share/doc/*']

const CUSTOMIZE = join(import.meta.dirname, 'vdisk-system.sh')

/** What makes a system another one than the tests' and the demo's. */
export interface RootfsRecipe {
  /** Stands in the folder's name. */
  readonly label: string
  /** Installed besides the packages every system has. */
  readonly packages: readonly string[]
  readonly kernel: 'virtual' | 'full'
  /** This machine's own when it is not said. */
  readonly release?: Release
  /** Suites of this machine's release, as `sourcesOfRelease` takes them; all when it is not said. */
  readonly suites?: readonly string[]
  /** Script that runs last, after the one that makes a vDisk of it, with the root's path. */
  readonly customize?: string
}

const MINIMAL: RootfsRecipe = { label: '', packages: [], kernel: 'virtual' }

/**
 * With every network service there is, a firewall, a program that wants more memory than there is, one that
 * loads other kernels, and those that look into all disks.
 */
export const SERVICES: RootfsRecipe = {
  label: 'services',
  packages: [
    'network-manager',
    'ifupdown',
    'isc-dhcp-client',
    'netplan.io',
    'nftables',
    'stress-ng',
    'kexec-tools',
    'lvm2',
    'os-prober',
  ],
  kernel: 'virtual',
}

/** A desktop that logs somebody in by itself and says so; it runs on any machine. */
export const DESKTOP: RootfsRecipe = {
  label: 'desktop',
  packages: [
    'xfce4',
    'lightdm',
    'lightdm-gtk-greeter',
    'xserver-xorg-core',
    'xserver-xorg-input-libinput',
    'dbus-x11',
    'firefox-esr',
  ],
  kernel: 'full',
  customize: join(import.meta.dirname, 'desktop-system.sh'),
}

/** What the desktop's serial console shows when somebody can work. */
export const DESKTOP_IS_UP = /the session is up/

/** Of a file system for it. */
export const DESKTOP_BYTES: number = 4 * GiB

/** Builds the system when it is not there; `onBuild` is told before that. */
export async function ensureRootfs(
  onBuild: () => void = () => undefined,
  recipe: RootfsRecipe = MINIMAL,
): Promise<Rootfs> {
  const { system, ...release } = recipe.release ?? (await hostRelease(recipe.suites))
  const sources = await release.sources()
  if (sources.length === 0) {
    throw new Error(`Cannot install ${system.codename}: no apt source of this machine offers it`)
  }
  const kernel = recipe.kernel === 'virtual' ? system.virtualKernel : system.fullKernel
  const packages = [...PACKAGES, ...recipe.packages, kernel]
  const scripts = [CUSTOMIZE, ...(recipe.customize === undefined ? [] : [recipe.customize])]
  const texts = await Promise.all(scripts.map(async (path) => await readFile(path, 'utf8')))
  const key = recipeKey({ system, sources, packages, LEFT_OUT, customize: texts.join('') })
  const name = `${system.id}-${system.version}${recipe.label === '' ? '' : `-${recipe.label}`}`
  const folder = join(CACHE_FOLDER, 'images', `${name}-${key}`)
  const tarPath = await ensureBuilt(join(folder, 'rootfs.tar'), async (path) => {
    onBuild()
    await install(path, { system, sources, packages, scripts })
  })
  return { system, name, folder, tarPath }
}

async function install(
  tarPath: string,
  recipe: {
    readonly system: HostSystem
    readonly sources: readonly SourcesFile[]
    readonly packages: readonly string[]
    readonly scripts: readonly string[]
  },
): Promise<void> {
  const { system, sources, packages, scripts } = recipe
  const settings = transportSettings(await runProgram('apt-config', ['dump']))
  await runProgram('mmdebstrap', [
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    ...settings.map((setting) => `--aptopt=${setting}`),
    ...LEFT_OUT.map((path) => `--dpkgopt=path-exclude=${path}`),
    ...scripts.map((path) => `--customize-hook=${path}`),
    '--format=tar',
    system.codename,
    tarPath,
    ...(await writeSources(dirname(tarPath), sources)),
  ])
}

async function writeSources(folder: string, sources: readonly SourcesFile[]): Promise<string[]> {
  return await Promise.all(
    sources.map(async ({ style, text }, index) => {
      const path = join(folder, `${index}.${style === 'deb822' ? 'sources' : 'list'}`)
      await writeFile(path, text)
      return path
    }),
  )
}
