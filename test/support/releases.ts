/**
 * Releases other than this machine's own that systems are installed of. Debian's come from where this machine
 * is served; Ubuntu's from its archive, whose keys no Debian has: their package is fetched and held against its
 * hash.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  RELEASE_POCKET,
  readSourcesFiles,
  type SourcesFile,
  sourcesOfRelease,
} from './apt-sources.ts'
import { CACHE_FOLDER, ensureBuilt } from './build-cache.ts'
import { runScript } from './child-run.ts'
import { type HostSystem, KERNELS, readHostSystem } from './host-system.ts'

export interface Release {
  readonly system: HostSystem
  /** Where apt finds its packages. */
  readonly sources: () => Promise<SourcesFile[]>
}

/** This machine's own. */
export async function hostRelease(suites?: readonly string[]): Promise<Release> {
  const system = await readHostSystem()
  return {
    system,
    sources: async () => sourcesOfRelease(await readSourcesFiles(), system.codename, suites),
  }
}

export const DEBIAN_13: Release = {
  system: { id: 'debian', version: '13', codename: 'trixie', ...KERNELS.debian },
  sources: () => otherDebianSources('trixie', RELEASE_POCKET),
}

export const UBUNTU_24: Release = {
  system: { id: 'ubuntu', version: '24.04', codename: 'noble', ...KERNELS.ubuntu },
  sources: async () => {
    const keyring = await ensureUbuntuKeyring()
    return [
      { style: 'one-line', text: `deb [signed-by=${keyring}] ${UBUNTU_ARCHIVE} noble main\n` },
    ]
  },
}

/** The sources of this machine's release, for another one; none on a machine that is no Debian. */
export async function otherDebianSources(
  codename: string,
  suites: readonly string[],
): Promise<SourcesFile[]> {
  const host = await readHostSystem()
  if (host.id !== 'debian') return []
  const sources = sourcesOfRelease(await readSourcesFiles(), host.codename, suites)
  return sources.map(({ style, text }) => ({
    style,
    text: text.replaceAll(host.codename, codename),
  }))
}

const UBUNTU_ARCHIVE = 'http://archive.ubuntu.com/ubuntu'
const UBUNTU_KEYRING_SHA256 = '36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8'

async function ensureUbuntuKeyring(): Promise<string> {
  const folder = await ensureBuilt(join(CACHE_FOLDER, 'ubuntu-keyring'), async (path) => {
    await mkdir(path)
    await writeFile(join(path, 'noble.list'), `deb [trusted=yes] ${UBUNTU_ARCHIVE} noble main\n`)
    const script = `
      cd "$1"
      mkdir -p lists/partial
      set -- -o Dir::Etc::SourceList="$PWD/noble.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$PWD/lists" -o APT::Sandbox::User=root -o Acquire::Languages=none
      apt-get -qq "$@" update
      apt-get -qq "$@" download ubuntu-keyring
      echo "$0  $(echo ubuntu-keyring_*.deb)" | sha256sum --check --quiet
      dpkg-deb -x ubuntu-keyring_*.deb .
      rm -rf lists noble.list ubuntu-keyring_*.deb`
    await runScript(script.replaceAll('$0', UBUNTU_KEYRING_SHA256), [path])
  })
  return join(folder, 'usr/share/keyrings/ubuntu-archive-keyring.gpg')
}
