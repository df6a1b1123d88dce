/** The memory test of this server's distribution (package memtest86+), for the menu of clients. */
import { access } from 'node:fs/promises'

/** How it is called since Debian 12 and Ubuntu 23.04; older ones start on a BIOS only. */
const STEM = '/boot/memtest86+x64'

const KINDS = ['bin', 'efi'] as const

export type MemtestFiles = ReadonlyMap<string, string>

/** Returns the programs by the kind of firmware that starts them; undefined when one is missing. */
export async function findMemtest(stem: string = STEM): Promise<MemtestFiles | undefined> {
  const files = new Map(KINDS.map((kind) => [kind, `${stem}.${kind}`]))
  try {
    for (const path of files.values()) await access(path)
    return files
  } catch {
    return undefined
  }
}
