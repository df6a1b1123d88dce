#!/usr/bin/env node
/** The program `bootwire`: server and administration. */
import { keepCompiledCode } from './compile-cache.ts'

keepCompiledCode()
const { runCli } = await import('./cli/run-cli.ts')
const { processTerminal } = await import('./cli/terminal.ts')

const status = await runCli(process.argv.slice(2), processTerminal())
// What failed may have left a read of a pipe that nobody writes to, which cannot be taken back.
if (status !== 0) process.exit(status)
