/** A small ext4 image that looks like an installed system without a kernel. Needs mke2fs. */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const FILES = {
  'etc/os-release': 'PRETTY_NAME="Test Linux 1"\nID=test\n',
  'etc/fstab': '',
  'etc/hostname': 'test\n',
  'sbin/init': '#!/bin/sh\n',
  'bin/sh': '#!/bin/sh\n',
  'usr/bin/env': '#!/bin/sh\n',
}

/** Creates `<folder>/<name>.img` and returns its path. */
export async function createBootableImage(folder: string, name: string): Promise<string> {
  const tree = join(folder, `${name}.tree`)
  for (const [path, content] of Object.entries(FILES)) {
    await mkdir(dirname(join(tree, path)), { recursive: true })
    await writeFile(join(tree, path), content, { mode: 0o755 })
  }
  await writeFile(join(tree, 'etc/name'), name) // so that no two images are the same
  const image = join(folder, `${name}.img`)
  await promisify(execFile)('mke2fs', ['-q', '-t', 'ext4', '-d', tree, image, '16M'])
  return image
}
