/**
 * iPXE that reads `autoexec.ipxe` on UEFI: this machine's own package, or else that of a later release of the
 * distribution, unpacked and not installed.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { IPXE_FOLDER } from '#server/pxe/ipxe-folder.ts'
import { RELEASE_POCKET } from './apt-sources.ts'
import { CACHE_FOLDER, ensureBuilt } from './build-cache.ts'
import { runScript } from './child-run.ts'
import { otherDebianSources } from './releases.ts'

/** The release after Debian 12, whose iPXE is of 2019. */
const LATER_CODENAME = 'trixie'

/** Returns the folder with its programs. */
export async function ensureIpxePrograms(): Promise<string> {
  const own = await readFile(join(IPXE_FOLDER, 'ipxe.efi')).catch(() => Buffer.alloc(0))
  if (own.includes('autoexec.ipxe')) return IPXE_FOLDER
  const folder = await ensureBuilt(join(CACHE_FOLDER, 'ipxe', LATER_CODENAME), async (path) => {
    await mkdir(join(path, 'sources'), { recursive: true })
    const sources = await otherDebianSources(LATER_CODENAME, RELEASE_POCKET)
    for (const [index, { style, text }] of sources.entries()) {
      const name = `${index}.${style === 'deb822' ? 'sources' : 'list'}`
      await writeFile(join(path, 'sources', name), text)
    }
    const script = `
      cd "$1"
      mkdir -p lists/partial
      set -- -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$PWD/sources" \
        -o Dir::State::Lists="$PWD/lists" -o APT::Sandbox::User=root
      apt-get -qq "$@" update
      apt-get -qq "$@" download ipxe
      dpkg-deb -x ipxe_*.deb .
      rm -rf lists ipxe_*.deb`
    await runScript(script, [path])
  })
  return join(folder, 'usr/lib/ipxe')
}
