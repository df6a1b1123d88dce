#!/usr/bin/env node
/**
 * `bootwire-agent`: what can be done on a client by hand, in the shell of its initramfs or while it
 * runs (/run/initramfs/bootwire-agent), and on any other machine that has Node.
 */
import { parseArgs } from 'node:util'
import { BootwireError, describeError } from '#shared/errors.ts'
import { formatCommand, showCommand } from './cache-commands.ts'

const USAGE = `usage:
  bootwire-agent cache format DEVICE [--force]   make a cache of a disk or partition that is empty
  bootwire-agent cache show DEVICE               say what is in it

A disk gets a partition table with one partition for the cache; a partition of a disk with a GPT
becomes one. --force also takes a device that is not empty: everything on it is lost.
`

async function run(): Promise<void> {
  const { positionals, values } = readArguments()
  const [group, command, device, ...rest] = positionals
  if (values.help === true || group === undefined) return say(USAGE)
  if (group !== 'cache' || device === undefined || rest.length > 0) throw unknownCommand()
  if (command === 'format') return say(await formatCommand(device, values.force === true))
  if (command === 'show' && values.force !== true) return say(await showCommand(device))
  throw unknownCommand()
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { force: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    })
  } catch (error) {
    throw new BootwireError('INVALID_ARGUMENT', error instanceof Error ? error.message : '')
  }
}

function unknownCommand(): BootwireError {
  return new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot do that: there is no such command\n\n${USAGE}`,
  )
}

function say(text: string): void {
  process.stdout.write(`${text.trimEnd()}\n`)
}

run().catch((error: unknown) => {
  process.stderr.write(`${describeError(error)}\n`)
  process.exitCode = 1
})
