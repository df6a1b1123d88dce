/**
 * From a session to an open vDisk: waits until the server offers something, lets a person choose
 * where there is a choice, and begins again when what was chosen cannot be had.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { BootwireError, describeError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import type { Identity, Opened } from '#shared/wire/messages.ts'
import { waitReason } from '../diagnosis/wait-reason.ts'
import { type BootMenu, type BootMenuOptions, chooseVdisk } from '../screen/boot-menu.ts'
import type { Consoles } from '../screen/consoles.ts'
import type { ScreenHost } from '../screen/screen.ts'
import { WaitScreen } from '../screen/wait-screen.ts'
import type { AgentSession } from '../session/agent-session.ts'

export interface ChooseParts {
  readonly session: AgentSession
  readonly consoles: ScreenHost & Pick<Consoles, 'log'>
  readonly facts: MachineFacts
  /** Chosen before, under another kernel; not asked for again while it is offered. */
  readonly presetVdisk: string | undefined
  /** How long it stays to be read why a vDisk could not be opened; only given by tests. */
  readonly failureShownMs?: number
}

export interface Chosen {
  readonly identity: Identity
  readonly opened: Opened
}

/** A server in the same building answers sooner: then no screen comes up just to go away. */
const PATIENCE_MS = 3_000

/** Long enough to read three lines. */
const FAILURE_SHOWN_MS = 5_000

/** Waits as long as it takes. */
export async function chooseAndOpen(parts: ChooseParts): Promise<Chosen> {
  const { session, consoles, failureShownMs = FAILURE_SHOWN_MS } = parts
  let { presetVdisk } = parts
  for (;;) {
    await untilOffered(parts)
    const vdisk = await choose({ ...parts, presetVdisk })
    if (vdisk === undefined) continue // no longer offered
    try {
      const opened = await openWhileConnected(session, vdisk)
      const { identity } = session
      if (identity !== undefined && opened !== undefined) return { identity, opened }
      presetVdisk = vdisk // the server is gone: nobody is asked twice
    } catch (error) {
      if (!(error instanceof BootwireError)) throw error
      presetVdisk = undefined
      consoles.log(describeError(error))
      await sleep(failureShownMs)
    }
  }
}

/** Returns undefined when the connection is lost meanwhile, which is for the screen to show. */
async function openWhileConnected(
  session: AgentSession,
  vdisk: string,
): Promise<Opened | undefined> {
  const lost = new AbortController()
  const opened = session.open({ vdisk }, lost.signal)
  const watch = async () => {
    while (session.connection.isUp && !lost.signal.aborted) await session.changed()
    lost.abort()
  }
  void watch()
  try {
    return await opened
  } catch (error) {
    if (lost.signal.aborted) return undefined
    throw error
  } finally {
    lost.abort()
  }
}

async function untilOffered({ session, consoles, facts }: ChooseParts): Promise<void> {
  const patient = sleep(PATIENCE_MS, 'impatient' as const, { ref: false })
  let screen: WaitScreen | undefined
  let isPatient = true
  try {
    for (;;) {
      const changed = session.changed()
      const { connection, identity, trust } = session
      const reason = waitReason(facts, connection, identity, trust.known)
      if (reason === undefined) return
      if (screen !== undefined) screen.update(reason)
      else if (!isPatient || session.connection.isUp) {
        screen = await WaitScreen.open(consoles, reason)
      }
      const what = await (screen === undefined ? Promise.race([changed, patient]) : changed)
      if (what === 'impatient') isPatient = false
    }
  } finally {
    await screen?.[Symbol.asyncDispose]()
  }
}

/** Returns undefined when there is nothing to choose from any more. */
async function choose({
  session,
  consoles,
  presetVdisk,
}: ChooseParts): Promise<string | undefined> {
  const { identity } = session
  if (identity === undefined) return undefined
  const { offers } = identity
  if (offers.some(({ vdisk }) => vdisk === presetVdisk)) return presetVdisk
  if (offers.length === 1) return offers[0]?.vdisk
  const gone = new AbortController()
  try {
    return await chooseVdisk(consoles, menuOptions(identity), gone.signal, (menu) => {
      void keepUpdated(menu, session, gone)
    })
  } catch (error) {
    if (gone.signal.aborted) return undefined
    throw error
  } finally {
    gone.abort()
  }
}

/** While the menu is up, the administrator may assign other vDisks or take them all away. */
async function keepUpdated(
  menu: BootMenu,
  session: AgentSession,
  gone: AbortController,
): Promise<void> {
  let shown = session.identity
  for (;;) {
    await session.changed()
    if (gone.signal.aborted) return
    const { identity } = session
    if (identity === undefined || identity === shown) continue // the connection only
    if (identity.offers.length === 0) return gone.abort()
    shown = identity
    menu.update(menuOptions(identity))
  }
}

function menuOptions(identity: Identity): BootMenuOptions {
  const { offers, defaultVdisk, menuSeconds, hostname, serverName } = identity
  return { offers, defaultVdisk, menuSeconds, hostname, serverName }
}
