import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const PACKAGE_JSON = join(import.meta.dirname, '..', 'package.json')

/** Version of the package, as people know it. */
export const VERSION: string = (
  JSON.parse(readFileSync(PACKAGE_JSON, 'utf8')) as { readonly version: string }
).version
