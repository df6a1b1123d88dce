/** Mounts the ext4 image it is given as an import does, says so, and never ends: to be killed. */
import { statSync } from 'node:fs'
import { wholeImage } from '#server/import/image-part.ts'
import { MountedImage } from '#server/import/mounted-image.ts'

const path = process.argv[2] ?? ''
const image = { path, name: path, sizeBytes: statSync(path).size, format: 'raw' }
const fileSystem = { part: wholeImage(image), type: 'ext4' }
const { signal } = new AbortController()
const mounted = await MountedImage.mount({ root: { image, fileSystem, options: '' } }, signal)
const names = await mounted.tree.list('/')
process.stdout.write(`${names.join(' ')}\n`)
setInterval(() => undefined, 60_000)
