#!/usr/bin/env node
/**
 * `bootwire-agent`: what can be done on a client by hand, in the shell of its initramfs or while it
 * runs (/run/initramfs/bootwire-agent), and on any other machine that has Node.
 */
import { parseArgs } from 'node:util'
import { parseSize } from '#shared/amounts.ts'
import { BootwireError, describeError } from '#shared/errors.ts'
import { formatCommand, showCommand } from './cache-commands.ts'
import { captureCommand } from './capture-command.ts'
import { renewKeyCommand, showKeyCommand } from './key-commands.ts'
import { dropCommand, showAreaCommand } from './write-area-commands.ts'

const USAGE = `usage:
  bootwire-agent cache format DEVICE [--write-area SIZE] [--force]
      make a cache of a disk or partition that is empty
  bootwire-agent cache show DEVICE
      say what is in it
  bootwire-agent write-area format DEVICE [--force]
      make room for what this machine writes, of a disk or partition that is empty
  bootwire-agent write-area show DEVICE
      say what is in it
  bootwire-agent write-area drop DEVICE VERSION
      give up what is kept there over that version

  bootwire-agent key format DEVICE [--force]
      make room for the key by which this machine proves who it is; a cache has room, too
  bootwire-agent key show DEVICE
      say which key is on a cache or a place for a key, after making one where there is none
  bootwire-agent key renew DEVICE
      make another one

  bootwire-agent capture DEVICE
      send a disk or partition to the server this machine was started from, to become a vDisk

A disk gets a partition table; a cache on a whole disk leaves a quarter of it, at most 32 GiB, for a write
area, or what --write-area says, as 8GiB or none. A partition of a disk with a GPT becomes one of ours.
--force also takes a device that is not empty: everything on it is lost.
`

async function run(): Promise<void> {
  const { positionals, values } = readArguments()
  const [group, command, path, ...rest] = positionals
  if (values.help === true || group === undefined) return say(USAGE)
  if (group === 'capture' && command !== undefined && path === undefined) {
    return say(await captureCommand(command))
  }
  if (path === undefined) throw unknownCommand()
  const { force = false, 'write-area': areaSize } = values
  const name = [group, command, ...rest.map(() => 'more')].join(' ')
  const areaBytes = areaSize === undefined ? undefined : parseSize(areaSize)
  if (name === 'cache format')
    return say(await formatCommand({ path, use: 'cache', force, areaBytes }))
  if (areaBytes !== undefined) throw unknownCommand()
  if (name === 'write-area format')
    return say(await formatCommand({ path, use: 'writeArea', force }))
  if (name === 'key format') return say(await formatCommand({ path, use: 'identity', force }))
  if (force) throw unknownCommand()
  if (name === 'key show') return say(await showKeyCommand(path))
  if (name === 'key renew') return say(await renewKeyCommand(path))
  if (name === 'cache show') return say(await showCommand(path))
  if (name === 'write-area show') return say(await showAreaCommand(path))
  if (name === 'write-area drop more') return say(await dropCommand(path, rest[0] ?? ''))
  throw unknownCommand()
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        force: { type: 'boolean' },
        'write-area': { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
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
