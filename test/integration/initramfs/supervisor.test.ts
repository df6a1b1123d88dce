/**
 * The supervisor as a process of this machine; with the kernel's NBD driver it is tried in
 * test/e2e/full/supervisor.test.ts.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '#test/support/eventually.ts'
import { ensureSupervisor } from '#test/support/supervisor-binary.ts'
import { threadFlags } from '#test/support/supervisor-guest.ts'
import { SupervisorProcess } from '#test/support/supervisor-process.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 60_000 }

/** A network namespace of its own has no nbd family, whatever this machine's kernel has. */
const WITHOUT_NBD = { wrapper: ['unshare', '-n'] }

/** An agent that says its number and its process id, and ends with its supervisor. */
const STAY = `
say(restarts + ' ' + process.pid)
control.nextAnswer().catch(() => process.exit(9))
`

const SIGNALS_TO_END: readonly NodeJS.Signals[] = [
  ...(['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGPIPE', 'SIGTSTP'] as const),
  ...(['SIGUSR1', 'SIGUSR2'] as const),
]

/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, which make a thread an I/O flusher. */
const IO_FLUSHER_FLAGS = 0x80000 | 0x100000

describe('bootwire-supervisor', TIMEOUT, () => {
  it('gives the agent its two sockets, its variables, and nothing of its own parent', async () => {
    const script = `
      for fd in 0 1 2 3 4 5 6 7 8 9; do
        [ ! -h /proc/$$/fd/$fd ] || echo "$fd $(readlink /proc/$$/fd/$fd)"
      done
      tr '\\0' ' ' </proc/$$/cmdline | head -n 1
      readlink /proc/$$/cwd
      echo $BOOTWIRE_CONTROL_FD $BOOTWIRE_NBD_FD $BOOTWIRE_RESTARTS; ps -o pgid=,pid= $$`
    await using supervisor = await SupervisorProcess.run(['/bin/sh', '-c', script])
    const descriptors = await lines(supervisor, 5)
    assert.equal(descriptors[0], '0 /dev/null')
    assert.match(descriptors.slice(3).join(), /^3 socket:\[\d+\],4 socket:\[\d+\]$/)
    assert.equal(await supervisor.line(), '@bootwire-agent -c ')
    const [folder, variables, ids] = await lines(supervisor, 3)
    assert.deepEqual([folder, variables], ['/', '3 4 0'])
    const [group, pid] = ids?.trim().split(/\s+/) ?? []
    assert.equal(group, pid)
    assert.equal(await supervisor.exited, 0)
  })

  it('gives the agent every signal at its default, whatever its own parent ignores', async () => {
    const wrapper = ['env', '--ignore-signal=TERM,INT,CHLD', '--block-signal=USR1']
    const command = ['/bin/grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status']
    await using supervisor = await SupervisorProcess.run(command, { wrapper })
    assert.equal(await supervisor.line(), 'SigBlk:\t0000000000000000')
    assert.equal(await supervisor.line(), 'SigIgn:\t0000000000000000')
    assert.equal(await supervisor.exited, 0)
  })

  it('is a storage daemon, and every thread of Node with it', async (test) => {
    await using supervisor = await SupervisorProcess.runScript(STAY)
    const [, agent] = (await supervisor.line()).split(' ')
    for (const pid of [supervisor.pid, Number(agent)]) {
      assert.match(readFileSync(`/proc/${pid}/cmdline`, 'latin1'), /^@/)
    }
    // The session is the sixth field, the fourth behind the name.
    const stat = readFileSync(`/proc/${supervisor.pid}/stat`, 'latin1')
    assert.equal(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3], String(supervisor.pid))
    if (/no I\/O flusher|may be killed/.test(supervisor.stderr)) {
      test.skip('this machine does not let us say more: CAP_SYS_RESOURCE is missing')
      return
    }
    for (const pid of [supervisor.pid, Number(agent)]) {
      assert.equal(readFileSync(`/proc/${pid}/oom_score_adj`, 'latin1'), '-1000\n')
      for (const flags of await threadFlags(pid)) {
        assert.equal(flags & IO_FLUSHER_FLAGS, IO_FLUSHER_FLAGS)
      }
    }
  })

  it('starts the agent again when it dies, ever more slowly, and says so', async () => {
    const script = `
      echo $BOOTWIRE_RESTARTS $(readlink /proc/$$/fd/3) $(readlink /proc/$$/fd/4)
      kill -$((6 + BOOTWIRE_RESTARTS % 2 * 3)) $$`
    await using supervisor = await SupervisorProcess.run(['/bin/sh', '-c', script])
    const agents = (await lines(supervisor, 5)).map((line) => line.split(' '))
    assert.deepEqual(
      agents.map(([restarts]) => restarts),
      ['0', '1', '2', '3', '4'],
    )
    const sockets = new Set(agents.flatMap(([, ...sockets]) => sockets))
    assert.equal(sockets.size, 10, 'each has sockets of its own')
    await eventually('it gives up hope', () => /restart 5/.test(supervisor.stderr))
    const said = supervisor.stderr.match(/the agent .*/g)
    assert.deepEqual(said, [
      'the agent died of signal 6; restart 1 in 0 ms',
      'the agent died of signal 9; restart 2 in 50 ms',
      'the agent died of signal 6; restart 3 in 100 ms',
      'the agent died of signal 9; restart 4 in 200 ms',
      'the agent died of signal 6; restart 5 in 5000 ms: it does not stay up',
    ])
  })

  it('ends with the status of an agent that meant to end, and with no other', async () => {
    for (const status of [0, 64]) {
      const source = `process.exit(restarts === 0 ? 65 : ${status})`
      await using supervisor = await SupervisorProcess.runScript(source)
      assert.equal(await supervisor.exited, status)
      assert.match(supervisor.stderr, /the agent exited with status 65; restart 1 in 0 ms/)
    }
  })

  it('takes no signal for a reason to end', async () => {
    await using supervisor = await SupervisorProcess.runScript(
      `process.on('SIGUSR2', () => say('still here'))\n${STAY}`,
    )
    const [, agent] = (await supervisor.line()).split(' ')
    for (const signal of SIGNALS_TO_END) supervisor.kill(signal)
    process.kill(Number(agent), 'SIGUSR2')
    assert.equal(await supervisor.line(), 'still here')
    process.kill(Number(agent), 'SIGKILL')
    assert.match(await supervisor.line(), /^1 /)
  })

  it('answers every line in its order, whatever is wrong with it', async () => {
    const requests: readonly [string, RegExp][] = [
      ['', /^error 22 expected attach, detach, kexec or alive$/],
      ['reboot now', /^error 22 expected attach, detach, kexec or alive$/],
      ['attach', /^error 22 expected the numbers/],
      ['attach 0 4096 4096', /^error 22 expected the numbers/],
      ['attach 0 4096 4096 1', /^error 22 expected a BACKEND_ID/],
      ['attach -1 4096 4096 1 id', /^error 22 expected the numbers/],
      ['attach 0x1 4096 4096 1 id', /^error 22 expected the numbers/],
      ['attach 0  4096 4096 1 id', /^error 22 expected the numbers/],
      ['attach 0 99999999999999999999999 4096 1 id', /^error 22 expected the numbers/],
      ['attach 4294967296 4096 4096 1 id', /^error 22 expected the numbers/],
      ['attach 0 4096 4096 1 id more', /^error 22 expected a BACKEND_ID/],
      [`attach 0 4096 4096 1 ${'i'.repeat(256)}`, /^error 22 expected a BACKEND_ID/],
      [`attach 0 4096 4096 1 ${'i'.repeat(255)}`, /^error 95 the kernel has no nbd/],
      ['attach 0 4096 4096 1 id', /^error 95 the kernel has no nbd netlink family/],
      ['attach 0 40\u000096 4096 1 id', /^error 22 a zero byte in the line$/],
      ['x'.repeat(50_000), /^error 90 the line is too long$/],
      ['detach', /^error 22 expected INDEX$/],
      ['detach 0 0', /^error 22 expected INDEX$/],
      ['detach 0', /^error 95 the kernel has no nbd netlink family/],
      ['alive', /^error 22 expected SECONDS, at most 3600$/],
      ['alive 3601', /^error 22 expected SECONDS/],
      ['alive 1 2', /^error 22 expected SECONDS/],
      ['alive 0', /^ok noted$/],
      ['kexec /a /b', /^error 22 expected KERNEL_PATH/],
      ['kexec /nowhere /dev/null quiet', /^error 2 the kernel cannot be opened$/],
      ['kexec /dev/null /nowhere quiet', /^error 2 the initrd cannot be opened$/],
      ['kexec /dev/null /dev/null quiet a="b c"', /^error \d+ the kernel cannot be loaded$/],
    ]
    const text = requests.map(([line]) => `${line}\n`).join('')
    const source = `
      const bytes = Buffer.from(${JSON.stringify(text)})
      const ask = async (partBytes) => {
        for (let at = 0; at < bytes.length; at += partBytes) {
          control.send(bytes.subarray(at, at + partBytes))
          await new Promise(setImmediate)
        }
        for (let i = 0; i < ${requests.length}; i++) say(await control.nextAnswer())
      }
      await ask(bytes.length)
      await ask(7)
      process.exit(0)`
    await using supervisor = await SupervisorProcess.runScript(source, WITHOUT_NBD)
    for (let round = 0; round < 2; round++) {
      for (const [line, answer] of requests) {
        assert.match(await supervisor.line(), answer, line.slice(0, 80))
      }
    }
    assert.equal(await supervisor.exited, 0)
  })

  it('ends an agent that hangs, after its promise and a second chance, and starts another', async () => {
    await using supervisor = await SupervisorProcess.runScript(`
      if (restarts === 0) {
        say('promised ' + await control.ask('alive 1'))
        for (;;);
      }
      say('again ' + restarts)
    `)
    assert.equal(await supervisor.line(), 'promised ok noted')
    assert.equal(await supervisor.line(), 'again 1')
    assert.match(supervisor.stderr, /the agent hangs/)
  })

  it('sleeps when the agent has closed its control socket, and goes on', async () => {
    await using supervisor = await SupervisorProcess.runScript(`
      control.close()
      say(String(process.pid))
      setInterval(() => undefined, 1000)`)
    const agent = Number(await supervisor.line())
    const sleeps = () =>
      /^State:\tS/m.test(readFileSync(`/proc/${supervisor.pid}/status`, 'latin1'))
    await eventually('it sleeps', sleeps)
    for (let i = 0; i < 50; i++) assert.ok(sleeps(), 'it was woken by nothing')
    process.kill(agent, 'SIGKILL')
    assert.notEqual(Number(await supervisor.line()), agent)
  })

  it('hangs up on an agent that reads no answers, and still restarts it', async () => {
    await using supervisor = await SupervisorProcess.runScript(`
      const { writeSync } = await import('node:fs')
      if (restarts > 0) { say('again'); process.exit(0) }
      for (;;) {
        try {
          writeSync(3, 'x\\n'.repeat(100))
        } catch (error) {
          if (error.code === 'EAGAIN') continue
          say(error.code)
          process.exit(1)
        }
      }`)
    assert.match(await supervisor.line(), /^(EPIPE|ECONNRESET)$/)
    assert.equal(await supervisor.line(), 'again')
    assert.equal(await supervisor.exited, 0)
  })

  it('waits for nobody who does not read its messages', async () => {
    const count = 3000 // of some 60 bytes each, where a pipe holds 64 KiB
    const source = `
      for (let i = 0; i < ${count}; i++) await control.ask('x')
      say('answered')
      process.exit(0)`
    await using supervisor = await SupervisorProcess.runScript(source, { readStderr: false })
    assert.equal(await supervisor.line(), 'answered')
    assert.equal(await supervisor.exited, 0)
  })

  it('ends the helpers of an agent that died', async () => {
    await using supervisor = await SupervisorProcess.runScript(`
      const { spawn } = await import('node:child_process')
      const { pid } = spawn('sleep', ['1000'], { stdio: 'inherit' })
      say(restarts + ' ' + process.pid + ' ' + pid)
      ${STAY}`)
    const [, agent, helper] = (await supervisor.line()).split(' ')
    process.kill(Number(agent), 'SIGKILL')
    await eventually('the helper is gone', () => !isRunning(Number(helper)))
  })

  it('leaves the agent running when it is killed itself, and the agent sees it', async () => {
    const source = `say('ready'); await control.nextAnswer().catch((error) => say(error.message))
      process.exit(0)`
    await using supervisor = await SupervisorProcess.runScript(source)
    assert.equal(await supervisor.line(), 'ready')
    supervisor.kill('SIGKILL')
    assert.equal(await supervisor.line(), 'the supervisor closed the control socket')
  })

  it('appends its messages to the log file', async () => {
    await using folder = await createTemporaryFolder()
    const path = join(folder.path, 'log')
    const options = ['-l', path]
    for (let i = 0; i < 2; i++) {
      const source = `process.exit(restarts === 0 ? 1 : 0)`
      await using supervisor = await SupervisorProcess.runScript(source, { options })
      assert.equal(await supervisor.exited, 0)
    }
    const said = readFileSync(path, 'utf8').match(/^bootwire-supervisor: the agent exited .*$/gm)
    assert.equal(said?.length, 2)
  })

  it('says with status 2 what is wrong with its command line', async () => {
    const program = await ensureSupervisor()
    const cases: readonly [readonly string[], RegExp][] = [
      [[], /expected a command with its full path/],
      [['--'], /expected a command with its full path/],
      [['sh'], /expected a command with its full path/],
      [['/nowhere/agent'], /the command cannot be run/],
      [['-x', '/bin/true'], /no such option/],
      [['-l', '/nowhere/log', '/bin/true'], /the log file cannot be written/],
    ]
    for (const [args, expected] of cases) {
      const failure: unknown = await promisify(execFile)(program, args).catch((error) => error)
      assert.ok(failure instanceof Error && 'code' in failure && 'stderr' in failure)
      assert.equal(failure.code, 2, args.join(' '))
      assert.match(String(failure.stderr), expected)
      assert.match(String(failure.stderr), /^usage: bootwire-supervisor /m)
    }
  })
})

async function lines(supervisor: SupervisorProcess, count: number): Promise<string[]> {
  const lines: string[] = []
  while (lines.length < count) lines.push(await supervisor.line())
  return lines
}

/** A process that nobody waited for is there still, but does not run. */
function isRunning(pid: number): boolean {
  const path = `/proc/${pid}/stat`
  return existsSync(path) && !/\) [ZX] /.test(readFileSync(path, 'latin1'))
}
