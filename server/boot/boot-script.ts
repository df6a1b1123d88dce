/**
 * Renders the iPXE scripts of `ipxe-scripts/`. Pure but for reading the templates once: the same
 * input gives the same text, byte for byte (`test/golden/ipxe`).
 */
import { readFileSync } from 'node:fs'
import { type BootParameters, renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { ASK_PATH, ENTRY_SCRIPT_PATH, MEMTEST_PATH } from './boot-paths.ts'

/** One archive of the initramfs. */
export interface InitrdFile {
  /** What iPXE calls it; EFI kernels ask for it by this name. */
  readonly name: string
  readonly path: string
}

/** What every script needs to know of the servers. Each URL is `http://HOST:PORT`. */
export interface ScriptServers {
  /** As this machine reached this server. */
  readonly serverUrl: string
  /** Asked one after the other when this one does not answer. */
  readonly otherUrls: readonly string[]
  /** This server has a memory test. */
  readonly hasMemtest: boolean
}

export interface KernelScript extends ScriptServers {
  readonly title: string
  readonly kernelPath: string
  readonly initrds: readonly InitrdFile[]
  readonly parameters: BootParameters
  /** The server's own kernel parameters, put behind the others. */
  readonly kernelParameters: string
}

export interface MessageScript extends ScriptServers {
  readonly reason: string
  readonly action: string
  /** Address this machine reached the server at. */
  readonly server: string
}

/** An administrator's change reaches a waiting machine this soon; one request each costs nothing. */
const RETRY_SECONDS = 10

/** Somebody who wants the menu presses the key before, and again and again; everybody else waits this long. */
const HOT_KEY_MS = 500

/**
 * The network as iPXE has it, so that the client need not ask again (kernel:
 * Documentation/admin-guide/nfs/nfsroot.rst), the card it lies on, and its MTU. rootfstype: the agent runs from
 * the initramfs for ever, where a tmpfs could be swapped out.
 */
const CLIENT_PARAMETERS =
  'rootfstype=ramfs ip=${netX/ip}::${netX/gateway}:${netX/netmask}:::none:${netX/dns} BOOTIF=01-${netX/mac:hexhyp} bootwire.mtu=${netX/mtu}'

/**
 * No swap (systemd.directives(7)), which installed systems have in their fstab: the write cache is
 * memory that would be swapped out to the disk that it holds the writes of, and both wait for ever.
 */
const SYSTEM_PARAMETERS = 'systemd.swap=0'

/** Screen and serial line alike; systemd's own messages go to the last. */
const CONSOLE_PARAMETERS = 'console=tty0 console=ttyS0,115200 quiet'

/** x86 kernels take 2047 characters, of which ours are 500. */
const OWN_PARAMETERS_LENGTH_MAX = 1024

/** No `$`, no `|` or `&`, no control characters: nothing iPXE would make something of. */
const PLAIN_PARAMETERS = /^[A-Za-z0-9 .,:;=_/@%+-]*$/

const RETRY = {
  retrySeconds: String(RETRY_SECONDS),
  retryMs: String(RETRY_SECONDS * 1000),
}

const MEMTEST_ITEM = 'item memtest Test the memory'

const templates = new Map(
  ['boot', 'kernel', 'message', 'menu', 'memtest'].map((name) => [
    name,
    readFileSync(new URL(`../../ipxe-scripts/${name}.ipxe`, import.meta.url), 'utf8'),
  ]),
)

/** The script every machine begins with. */
export function renderEntryScript(servers: ScriptServers): string {
  const urls = [servers.serverUrl, ...servers.otherUrls]
  return render('boot', servers, {
    hotKeyMs: String(HOT_KEY_MS),
    askServers: urls
      .map(
        (url) =>
          `chain --replace --autofree ${url}${ASK_PATH}?\${who} || echo bootwire: no answer from ${url}`,
      )
      .join('\n'),
  })
}

export function renderKernelScript(script: KernelScript): string {
  const { initrds, parameters, serverUrl, otherUrls } = script
  const urlOf = (path: string) => serverUrl + path
  const args = [
    ...initrds.map(({ name }) => `initrd=${name}`),
    CLIENT_PARAMETERS,
    SYSTEM_PARAMETERS,
    CONSOLE_PARAMETERS,
    script.kernelParameters.trim(),
    renderBootParameters(parameters),
  ]
  return render('kernel', script, {
    ...RETRY,
    title: plainText(script.title),
    kernelUrl: urlOf(script.kernelPath),
    nextEntryUrl: (otherUrls[0] ?? serverUrl) + ENTRY_SCRIPT_PATH,
    kernelArguments: args.filter((arg) => arg !== '').join(' '),
    initrdCommands: initrds
      .map(({ name, path }) => `initrd --name ${name} ${urlOf(path)} || goto failed`)
      .join('\n'),
  })
}

export function renderMessageScript(script: MessageScript): string {
  const { reason, action, server } = script
  return render('message', script, {
    ...RETRY,
    reason: plainText(reason),
    action: plainText(action),
    server: plainText(server),
  })
}

/** @throws {BootwireError} INVALID_ARGUMENT */
export function assertKernelParameters(text: string): void {
  if (text.length <= OWN_PARAMETERS_LENGTH_MAX && PLAIN_PARAMETERS.test(text)) return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use kernel parameters ${JSON.stringify(text)}: expected at most ${OWN_PARAMETERS_LENGTH_MAX} letters, digits, spaces and .,:;=_/@%+-`,
  )
}

function render(
  name: string,
  { serverUrl, hasMemtest }: ScriptServers,
  values: Readonly<Record<string, string>>,
): string {
  const urls = { entryUrl: serverUrl + ENTRY_SCRIPT_PATH, memtestUrl: serverUrl + MEMTEST_PATH }
  const menu = fill('menu', {
    ...urls,
    memtestItem: hasMemtest ? MEMTEST_ITEM : '',
    memtest: hasMemtest ? `\n${fill('memtest', urls).trim()}\n` : '',
  })
  return fill(name, { ...values, ...urls, menu: menu.replaceAll(/\n{3,}/g, '\n\n').trim() })
}

function fill(name: string, values: Readonly<Record<string, string>>): string {
  const template = templates.get(name)
  invariant(template !== undefined, `template ${name}`)
  return template.replaceAll(/\{\{([A-Za-z]+)\}\}/g, (_, key: string) => {
    const value = values[key]
    invariant(value !== undefined, `${name}.ipxe has a variable ${key} that nobody sets`)
    return value
  })
}

/** Texts hold what people typed; on a script's line they must be nothing but text. */
function plainText(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9 .,:;()'"/=_@+-]/g, '?').slice(0, 200)
}
