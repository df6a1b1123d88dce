/** `bootwire key …`: the server's own key. */
import type { KeyView } from '#server/admin/key-routes.ts'
import { adminClient, answer, type Cli, withJson } from './command.ts'
import type { Terminal } from './terminal.ts'

export function keyCommands(cli: Cli, terminal: Terminal): Cli {
  const commands = [showCommand, rollOverCommand]
  return cli.command('key', "The server's key, by which machines know it", (cli) =>
    commands
      .reduce((cli, add) => add(cli, terminal), cli)
      .example('$0 key show', 'to compare with the screen of a machine')
      .demandCommand(1, 'Which key command?'),
  )
}

function showCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'show',
    'Show the fingerprint of the key',
    (cli) => withJson(cli).example('$0 key show', ''),
    async (options) => {
      const key = await adminClient(options).ask<KeyView>('GET', '/key')
      answer(terminal, options.json, key, ({ pin }) => `${pin}\n`)
    },
  )
}

function rollOverCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'roll-over',
    'Make another key, which the server has from its next start on; machines go along by themselves',
    (cli) => withJson(cli).example('$0 key roll-over', 'then restart the server'),
    async (options) => {
      const key = await adminClient(options).ask<KeyView>('POST', '/key/roll-over')
      answer(
        terminal,
        options.json,
        key,
        ({ pin, nextPin }) =>
          `From its next start on the server has the key ${nextPin ?? ''}; the present one, ${pin}, has signed that\n`,
      )
    },
  )
}
