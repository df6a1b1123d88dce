/** What all commands share: how they find the server and how they answer. */
import type { Argv } from 'yargs'
import { adminSocketPath, defaultStateFolder } from '#server/state/state-folder.ts'
import { AdminClient, type AdminTarget } from './admin-client.ts'
import { remoteTarget } from './remote-target.ts'
import type { Terminal } from './terminal.ts'

/** Options every command understands. */
export interface CommonOptions {
  readonly state: string
  readonly socket?: string | undefined
  readonly server?: string | undefined
  readonly pin?: string | undefined
  readonly tokenFile?: string | undefined
}

export type Cli = Argv<CommonOptions>

/**
 * What a lone `-` on the command line is given to yargs as, which would take it for an option without
 * a name. Standard input, or standard output.
 */
export const STDIO = 'stdio:'

/** The command line itself is wrong: exit status 2, and a hint at --help. */
export class UsageError extends Error {}

/**
 * The outcome is a bad one, and nothing is wrong with the program or the server: the command has told
 * of it, or its message does.
 */
export class BadOutcome extends Error {}

/** What was looked for was found, which the command has told of: exit status 3. */
export class SecretsFound extends Error {}

/** A person pressed Ctrl-C. */
export class Canceled extends Error {}

/**
 * Runs long work that Ctrl-C ends in order: the server gives up its part, and what was written here
 * goes. The second Ctrl-C ends the process at once.
 */
export async function cancelable<Result>(
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const canceling = new AbortController()
  const cancel = () => canceling.abort(new Canceled())
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const name of signals) process.once(name, cancel)
  try {
    return await work(canceling.signal)
  } catch (error) {
    // Whatever broke when it was canceled, that is why.
    throw canceling.signal.aborted ? canceling.signal.reason : error
  } finally {
    for (const name of signals) process.off(name, cancel)
  }
}

export function withCommonOptions(cli: Argv): Cli {
  return cli
    .option('state', {
      type: 'string',
      default: defaultStateFolder(),
      describe: "Folder of the server's data",
      requiresArg: true,
      global: true,
    })
    .option('socket', {
      type: 'string',
      describe: 'Administration socket, when it is not in the state folder',
      requiresArg: true,
      global: true,
    })
    .option('server', {
      type: 'string',
      default: process.env['BOOTWIRE_SERVER'],
      describe: 'Server to administer from afar, HOST:PORT of its --admin-port ($BOOTWIRE_SERVER)',
      requiresArg: true,
      global: true,
    })
    .option('pin', {
      type: 'string',
      default: process.env['BOOTWIRE_PIN'],
      describe: 'Fingerprint of its key, as "key show" has it ($BOOTWIRE_PIN)',
      requiresArg: true,
      global: true,
    })
    .option('token-file', {
      type: 'string',
      default: process.env['BOOTWIRE_TOKEN_FILE'],
      describe: 'File with the token of "admin add" ($BOOTWIRE_TOKEN_FILE)',
      requiresArg: true,
      global: true,
    })
}

export function withJson<Options extends CommonOptions>(
  cli: Argv<Options>,
): Argv<Options & { json: boolean }> {
  return cli.option('json', { type: 'boolean', default: false, describe: 'Answer in JSON' })
}

export function adminClient(options: CommonOptions): AdminClient {
  return new AdminClient(targetOf(options))
}

function targetOf({ socket, state, server, pin, tokenFile }: CommonOptions): AdminTarget {
  if (server === undefined || socket !== undefined)
    return { socketPath: socket ?? adminSocketPath(state) }
  return remoteTarget({ server, pin, tokenFile })
}

/** Writes a result: as JSON when asked for, else as text for a person. */
export function answer<Result>(
  terminal: Terminal,
  json: boolean,
  result: Result,
  format: (result: Result) => string,
): void {
  terminal.out(json ? `${JSON.stringify(result, null, 2)}\n` : format(result))
}

/** Path of a client or vDisk below a collection, whatever characters its name has. */
export function itemPath(
  collection: 'administrators' | 'captures' | 'clients' | 'join' | 'vdisks',
  name: string,
  rest = '',
): string {
  return `/${collection}/${encodeURIComponent(name)}${rest}`
}
