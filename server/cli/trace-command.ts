/** `bootwire vdisk trace` */
import { writeFile } from 'node:fs/promises'
import type { TraceView } from '#server/admin/admin-api.ts'
import { parseVersionSelector } from '#server/vdisks/version-selector.ts'
import { callerPath } from './caller-path.ts'
import { adminClient, answer, type Cli, itemPath, withJson } from './command.ts'
import type { Terminal } from './terminal.ts'
import { formatTrace } from './trace-picture.ts'
import { traceSvg } from './trace-svg.ts'

const ROWS = 20
/** Where the width of the terminal is not known. */
const COLUMNS = 80

export function traceCommand(cli: Cli, terminal: Terminal): Cli {
  return cli.command(
    'trace <vdisk>',
    'Show what a boot reads, where on the vDisk and when: what the next boot is sent ahead',
    (cli) =>
      withJson(cli)
        .positional('vdisk', {
          type: 'string',
          demandOption: true,
          describe: 'NAME for the version in production, or NAME@VERSION',
        })
        .option('ascii', {
          type: 'boolean',
          default: !isUtf8(process.env),
          describe: 'Draw with characters every terminal has',
        })
        .option('svg', { type: 'string', requiresArg: true, describe: 'Write a picture, too' })
        .option('forget', {
          type: 'boolean',
          default: false,
          describe: 'Forget what boots of this version have read; the next ones tell it anew',
        })
        .example('$0 vdisk trace debian', '')
        .example('$0 vdisk trace debian@2 --svg boot.svg', ''),
    async (options) => {
      const { vdisk, version } = parseVersionSelector(options.vdisk)
      const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
      const path = itemPath('vdisks', vdisk, `/trace${query}`)
      const method = options.forget ? 'DELETE' : 'GET'
      const view = await adminClient(options).ask<TraceView>(method, path)
      if (options.svg !== undefined) await writeFile(callerPath(options.svg), traceSvg(view))
      const columns = process.stdout.columns ?? COLUMNS
      answer(terminal, options.json, view, (view) =>
        formatTrace(view, { columns, rows: ROWS, ascii: options.ascii }),
      )
    },
  )
}

/** As locale(7) looks for it: the first of these that is set decides. */
function isUtf8({ LC_ALL, LC_CTYPE, LANG }: NodeJS.ProcessEnv): boolean {
  const locale = [LC_ALL, LC_CTYPE, LANG].find((value) => value !== undefined && value !== '')
  return /utf-?8/i.test(locale ?? '')
}
