/** What the agent finds in its surroundings at the start: descriptors, parameters, the machine. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type BootParameters, parseBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { invariant } from '#shared/invariant.ts'

export interface AgentContext {
  /** As package.json says; set when the agent is bundled. */
  readonly version: string
  readonly programFolder: string
  readonly controlFd: number
  readonly nbdFd: number
  readonly cmdline: string
  readonly parameters: BootParameters
  /** Of the boot script, so that the server's timeline begins before the agent; else a new one. */
  readonly bootId: string
}

/** @throws {BootwireError} BAD_KERNEL_PARAMETER */
export function readContext(): AgentContext {
  const cmdline = readFileSync('/proc/cmdline', 'utf8').trim()
  const parameters = parseBootParameters(cmdline)
  const program = process.argv[1]
  invariant(program !== undefined, 'the agent is a file')
  return {
    version: process.env['BOOTWIRE_VERSION'] ?? 'unbundled',
    programFolder: dirname(program),
    controlFd: descriptor('BOOTWIRE_CONTROL_FD'),
    nbdFd: descriptor('BOOTWIRE_NBD_FD'),
    cmdline,
    parameters,
    bootId: parameters.bootId ?? randomBytes(16).toString('hex'),
  }
}

/** The supervisor sets it. */
function descriptor(variable: string): number {
  const fd = Number(process.env[variable])
  invariant(Number.isInteger(fd) && fd > 2, `${variable} names a descriptor`)
  return fd
}
