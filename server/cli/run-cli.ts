/** The command line `bootwire`: finds the command, runs it, and turns failures into exit statuses. */
import yargs from 'yargs'
import { VERSION } from '#server/version.ts'
import { BootwireError, describeError } from '#shared/errors.ts'
import { adminCommands, auditCommand } from './admin-commands.ts'
import { captureCommands } from './capture-commands.ts'
import { clientCommands } from './client-commands.ts'
import {
  BadOutcome,
  Canceled,
  SecretsFound,
  STDIO,
  UsageError,
  withCommonOptions,
} from './command.ts'
import { COMPLETION_FLAG, completeNames } from './completion.ts'
import { joinCommands } from './join-commands.ts'
import { keyCommands } from './key-commands.ts'
import { mediaCommand } from './media-command.ts'
import { pxeCommands } from './pxe-commands.ts'
import { bootsCommand, serveCommand, statusCommand } from './server-commands.ts'
import { checkCommand, gcCommand } from './store-commands.ts'
import type { Terminal } from './terminal.ts'
import { vdiskCommands } from './vdisk-commands.ts'

/**
 * 0: done. 1: it could not be done, or what was checked is damaged. 2: the command line is wrong.
 * 3: secrets were found (`vdisk lint`). 130: canceled with Ctrl-C, as shells have it.
 */
export const EXIT_STATUS = { ok: 0, failed: 1, usage: 2, secrets: 3, canceled: 130 } as const
export type ExitStatus = (typeof EXIT_STATUS)[keyof typeof EXIT_STATUS]

/** Runs one command line; returns when the command is done, for `serve` when the server stopped. */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<ExitStatus> {
  const names = args.includes(COMPLETION_FLAG) ? await completeNames(args) : []
  if (names.length > 0) {
    terminal.out(`${names.join('\n')}\n`)
    return EXIT_STATUS.ok
  }
  try {
    await createCli(args, terminal).parseAsync()
    return EXIT_STATUS.ok
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.err(`bootwire: ${error.message}\n`)
      return EXIT_STATUS.usage
    }
    if (error instanceof BadOutcome) {
      if (error.message !== '') terminal.err(`bootwire: ${error.message}\n`)
      return EXIT_STATUS.failed
    }
    if (error instanceof SecretsFound) return EXIT_STATUS.secrets
    if (error instanceof Canceled) {
      terminal.err('bootwire: canceled\n')
      return EXIT_STATUS.canceled
    }
    terminal.err(`bootwire: ${describeError(error)}\n`)
    return isUsage(error) ? EXIT_STATUS.usage : EXIT_STATUS.failed
  }
}

function createCli(args: readonly string[], terminal: Terminal) {
  const cli = withCommonOptions(yargs(args.map(nameStdio)).scriptName('bootwire').version(VERSION))
  return (
    [
      serveCommand,
      statusCommand,
      vdiskCommands,
      clientCommands,
      joinCommands,
      captureCommands,
      keyCommands,
      adminCommands,
      pxeCommands,
      mediaCommand,
      auditCommand,
      bootsCommand,
      checkCommand,
      gcCommand,
    ]
      .reduce((cli, add) => add(cli, terminal), cli)
      .completion('completion', 'Print the completion script for the shell')
      .usage('$0 COMMAND\n\nStreams operating systems to machines without a disk.')
      .example('$0 serve', 'start the server')
      .example('$0 vdisk import debian.img', 'make a vDisk of an image')
      .example('$0 client approve client-1 --vdisk debian', 'let a machine boot it')
      .example('source <($0 completion)', 'completion for this shell')
      .demandCommand(1, 'Which command?')
      // A command line that is being completed is unfinished by nature.
      .strict(!args.includes('--get-yargs-completions'))
      .recommendCommands()
      .help()
      .alias('help', 'h')
      .wrap(Math.min(100, process.stdout.columns ?? 100))
      // Completions end the process, or else yargs goes on to complain about an unfinished command.
      .exitProcess(args.includes('--get-yargs-completions'))
      .fail((message, error) => {
        // yargs gives what a command threw as the error, and its own complaints as the message.
        throw (error as Error | undefined) ?? new UsageError(`${message}\nSee bootwire --help`)
      })
  )
}

function nameStdio(word: string): string {
  return word === '-' ? STDIO : word
}

/** A value of the command line was wrong, whoever found out. */
function isUsage(error: unknown): boolean {
  return error instanceof BootwireError && error.code === 'INVALID_ARGUMENT'
}
