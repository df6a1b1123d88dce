/** The command line of `npm run demo`. */
import { parseArgs } from 'node:util'
import { callerPath } from '#server/cli/caller-path.ts'

export interface DemoOptions {
  /** End at the login prompt instead of handing the console over. */
  readonly exit: boolean
  /** Last line of the output is a JSON object. */
  readonly json: boolean
  /** Image to boot instead of this machine's own distribution. */
  readonly disk?: string
  readonly memoryMiB: number
}

export const DEMO_USAGE = `usage: npm run demo -- [--exit] [--json] [--disk FILE] [--memory MIB]

Streams an operating system to a virtual machine that has no disk.

  --exit         end at the login prompt, with the timeline of the boot
  --json         the same as --exit, as one JSON object on the last line
  --disk FILE    boot this disk image (raw) instead of this machine's own distribution
  --memory MIB   memory of the virtual machine, 512 or more; 1024 when it is not said
`

/** What a client must get by with. */
const MEMORY_MIN_MIB = 512

const MEMORY_MIB = 1024

/** @throws an error that says what is wrong */
export function parseDemoOptions(args: readonly string[]): DemoOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      exit: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      disk: { type: 'string' },
      memory: { type: 'string', default: String(MEMORY_MIB) },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  const memoryMiB = Number(values.memory)
  if (!Number.isInteger(memoryMiB) || memoryMiB < MEMORY_MIN_MIB) {
    throw new Error(
      `Cannot use --memory "${values.memory}": expected a whole number of MiB from ${MEMORY_MIN_MIB} on`,
    )
  }
  return {
    exit: values.exit || values.json,
    json: values.json,
    memoryMiB,
    ...(values.disk !== undefined && { disk: callerPath(values.disk) }),
  }
}
