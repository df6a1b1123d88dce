/**
 * The links of the chain between this machine and its vDisk, each tried by itself: what is broken is named, and
 * what hangs on it is not blamed. Pure but for the probes it is given.
 */
import { BootwireError } from '#shared/errors.ts'

/** In the order in which a person looks at them. */
export const LINK_NAMES = [
  'link',
  'DHCP',
  'gateway',
  'DNS',
  'server',
  'TLS',
  'clock',
  'identity',
  'assignment',
  'stream',
] as const
export type LinkName = (typeof LINK_NAMES)[number]

/** `note`: works, but somebody should know. */
export type ProbeResult =
  | { readonly state: 'good' | 'note' | 'untested'; readonly text: string }
  | { readonly state: 'bad'; readonly error: BootwireError }

export type LinkReport = { readonly name: LinkName } & (ProbeResult | { readonly state: 'testing' })

export type Probes = Readonly<Record<LinkName, () => Promise<ProbeResult>>>

/** What has to work before a link can be tried at all. */
const NEEDS: Readonly<Record<LinkName, readonly LinkName[]>> = {
  link: [],
  DHCP: ['link'],
  gateway: ['DHCP'],
  DNS: ['DHCP'],
  server: ['DHCP'],
  TLS: ['server'],
  clock: ['TLS'],
  identity: ['TLS'],
  assignment: ['identity'],
  stream: ['TLS'],
}

/**
 * Tries all links, those that do not hang on each other at once. `onChange` is given all reports whenever
 * one has changed. Never rejects: a probe that fails is a link that is bad.
 */
export async function checkChain(
  probes: Probes,
  onChange: (reports: readonly LinkReport[]) => void = () => undefined,
): Promise<readonly LinkReport[]> {
  const reports = new Map<LinkName, LinkReport>(
    LINK_NAMES.map((name) => [name, { name, state: 'testing' }]),
  )
  const list = () => [...reports.values()]
  const done = new Map<LinkName, Promise<void>>()
  const tryLink = async (name: LinkName) => {
    const needs = NEEDS[name]
    await Promise.all(needs.map(async (need) => await done.get(need)))
    const broken = needs.find((need) => !isUsable(reports.get(need)))
    const result: ProbeResult =
      broken === undefined
        ? await tryProbe(probes[name])
        : { state: 'untested', text: `needs ${broken}` }
    reports.set(name, { name, ...result })
    onChange(list())
  }
  onChange(list())
  for (const name of LINK_NAMES) done.set(name, tryLink(name))
  await Promise.all(done.values())
  return list()
}

/** The broken link that a person should look at first. */
export function firstBroken(
  reports: readonly LinkReport[],
): Extract<LinkReport, { state: 'bad' }> | undefined {
  return reports.find((report) => report.state === 'bad')
}

function isUsable(report: LinkReport | undefined): boolean {
  return report?.state === 'good' || report?.state === 'note'
}

async function tryProbe(probe: () => Promise<ProbeResult>): Promise<ProbeResult> {
  try {
    return await probe()
  } catch (error) {
    if (error instanceof BootwireError) return { state: 'bad', error }
    const text = error instanceof Error ? error.message : String(error)
    return { state: 'bad', error: new BootwireError('INTERNAL', text, { cause: error }) }
  }
}
