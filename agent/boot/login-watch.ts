/**
 * Finds out when the booted system is up: the moment it offers a login. systemd keeps a link
 * `invocation:UNIT` in /run/systemd/units for every service it has started; nothing has to be
 * installed in the system for that.
 */
import { existsSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const UNITS_FOLDER = '/run/systemd/units'

/** Text consoles and the display managers of desktops. */
const LOGIN_UNIT =
  /^invocation:(?:(?:serial-|console-)?getty@?.*|display-manager|gdm3?|lightdm|sddm|lxdm|xdm|greetd|nodm)\.service$/

const LOOK_INTERVAL_MS = 250
/** A system that is not up after this has no login, or no systemd. */
const GIVE_UP_AFTER_MS = 15 * 60_000

/** Returns false when no login was offered in time. `unitsFolder` is only given by tests. */
export async function untilLogin(unitsFolder = UNITS_FOLDER): Promise<boolean> {
  const endMs = performance.now() + GIVE_UP_AFTER_MS
  while (performance.now() < endMs) {
    const units = existsSync(unitsFolder) ? readdirSync(unitsFolder) : []
    if (units.some((name) => LOGIN_UNIT.test(name))) return true
    await sleep(LOOK_INTERVAL_MS, undefined, { ref: false })
  }
  return false
}
