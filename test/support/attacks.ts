/**
 * What somebody on the network may try, by name. Each attack is tried with its guard up and, as a control, with
 * the guard down or the same thing done by who may: then it must get through, else it shows nothing.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { BINDING_BYTES, keyFingerprint, proofText } from '#shared/identity/device-key.ts'
import { invariant } from '#shared/invariant.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { encodeRequest } from '#shared/wire/frame.ts'
import { PROTOCOL_VERSION } from '#shared/wire/limits.ts'
import type { AgentMessage, Hello, Identity } from '#shared/wire/messages.ts'
import { ADMIN_ATTACKS } from './admin-attacks.ts'
import { BOOT_ID, hello } from './agent-messages.ts'
import type { Attack } from './attack.ts'
import { FakeSessionSocket } from './fake-session-socket.ts'
import { createTestCore, type TestCore } from './server-core.ts'

const HOUR_MS = 3_600_000
const OTHER_BOOT_ID = 'c'.repeat(32)
const VICTIM_MAC = '52:54:00:00:00:01'
const OTHER_MAC = '52:54:00:00:00:02'

interface Key {
  readonly spki: Buffer
  readonly fingerprint: string
  readonly privateKey: KeyObject
}

function newKey(): Key {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return { spki, fingerprint: keyFingerprint(spki), privateKey }
}

/** A connection of its own: its binding is nobody else's. */
class BoundSocket extends FakeSessionSocket {
  readonly #binding: Uint8Array

  constructor(binding: Uint8Array) {
    super()
    this.#binding = binding
  }

  override binding(): Uint8Array {
    return this.#binding
  }
}

let connections = 0

class Machine {
  readonly socket: BoundSocket
  readonly session: Session
  readonly binding: Uint8Array

  constructor(core: TestCore, binding?: Uint8Array) {
    connections += 1
    this.binding = binding ?? Buffer.alloc(BINDING_BYTES, connections)
    this.socket = new BoundSocket(this.binding)
    this.session = new Session(this.socket, '192.0.2.1', {
      ...core,
      settings: { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) },
      now: () => core.clock.nowMs,
      log: silentLog(),
    })
  }

  say(message: AgentMessage): void {
    this.session.receive(encodeMessage(message))
  }

  /** Says hello by the key, and returns what is to be signed. */
  async named(key: Key, fields: Partial<Hello> & { readonly mac?: string } = {}): Promise<Buffer> {
    const place = 'cache' as const
    const frame = encodeMessage(
      hello({ ...fields, key: { spki: key.spki.toString('base64'), place } }),
    )
    this.session.receive(frame)
    const { nonce } = await this.socket.nextMessage('challenge')
    return proofText({ binding: this.binding, hello: frame, nonce: Buffer.from(nonce, 'base64') })
  }

  prove(text: Uint8Array, key: Key): void {
    this.say({ kind: 'proof', signature: signed(text, key) })
  }

  async provenBy(key: Key, fields: Partial<Hello> & { readonly mac?: string } = {}) {
    this.prove(await this.named(key, fields), key)
    return await this.socket.nextMessage('identity')
  }

  /** Whether the server takes it for an authenticated client. */
  async isBelieved(): Promise<boolean> {
    const item = await this.socket.next()
    return 'message' in item && item.message.kind === 'identity'
      ? item.message.isAuthenticated === true
      : false
  }

  /** Whether it gets the vDisk. Identities that come before the answer are passed over. */
  async gets(vdisk: string, versionId?: string): Promise<boolean> {
    this.say({
      kind: 'open',
      vdisk,
      firstPushBytes: 0,
      ...(versionId !== undefined && { versionId }),
    })
    for (;;) {
      const item = await this.socket.next()
      if (!('message' in item)) return false
      if (item.message.kind !== 'identity') return item.message.kind === 'opened'
    }
  }
}

function signed(text: Uint8Array, key: Key): string {
  return sign(null, text, key.privateKey).toString('base64')
}

interface Site {
  readonly core: TestCore
  readonly key: Key
  readonly clientId: string
}

/** A server with the vDisks `lab` (for who is authenticated) and `other`, and a client that has `lab`. */
async function siteWithVictim({ hasKey }: { readonly hasKey: boolean }): Promise<Site> {
  const core = createTestCore()
  await core.addVDisk('lab')
  await core.addVDisk('other')
  const key = newKey()
  const machine = new Machine(core)
  let clientId: string
  if (hasKey) {
    ;({ clientId } = await machine.provenBy(key))
  } else {
    machine.say(hello())
    ;({ clientId } = await machine.socket.nextMessage('identity'))
  }
  await core.registry.assign(clientId, ['lab'], { only: true })
  await core.registry.approve(clientId, hasKey ? key.fingerprint : undefined)
  machine.session.disconnected()
  return { core, key, clientId }
}

async function strangerBy(core: TestCore, fields: Parameters<typeof hello>[0]) {
  const machine = new Machine(core)
  machine.say(hello(fields))
  const { state } = await machine.socket.nextMessage('identity')
  return { machine, state }
}

/** Control: the client has no key, so its MAC is all there is. */
const guessedMac: Attack = {
  name: 'a MAC that was guessed',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: guard === 'up' })
    const { machine } = await strangerBy(core, { mac: VICTIM_MAC, bootId: OTHER_BOOT_ID })
    return await machine.gets('lab')
  },
}

/** The right MAC, and a key of his own. Control: the victim's. */
const otherKey: Attack = {
  name: 'the MAC of a client, and another key',
  tryWith: async (guard) => {
    const { core, key } = await siteWithVictim({ hasKey: true })
    const machine = new Machine(core)
    await machine.provenBy(guard === 'up' ? newKey() : key, { bootId: OTHER_BOOT_ID })
    return await machine.gets('lab')
  },
}

/** Control: the proof of this connection's own challenge. */
const replayedProof: Attack = {
  name: 'a proof that was overheard',
  tryWith: async (guard) => {
    const { core, key } = await siteWithVictim({ hasKey: true })
    const binding = Buffer.alloc(BINDING_BYTES)
    const overheard = await new Machine(core, binding).named(key)
    const machine = new Machine(core, binding)
    const fresh = await machine.named(key)
    machine.prove(guard === 'up' ? overheard : fresh, key)
    return await machine.isBelieved()
  },
}

/**
 * He stands between the client and the server, has a connection with each, and passes challenge and proof on.
 * Control: connections that do not differ in their binding.
 */
const relayedProof: Attack = {
  name: 'a proof for another session, passed on',
  tryWith: async (guard) => {
    const { core, key } = await siteWithVictim({ hasKey: true })
    const clientsSide = Buffer.alloc(BINDING_BYTES, 1)
    const machine = new Machine(core, guard === 'up' ? Buffer.alloc(BINDING_BYTES, 2) : clientsSide)
    const text = Buffer.from(await machine.named(key))
    clientsSide.copy(text, text.length - 2 * BINDING_BYTES - BINDING_BYTES)
    machine.prove(text, key)
    return await machine.isBelieved()
  },
}

/** Control: before it was revoked. */
const revokedKey: Attack = {
  name: 'a key that was revoked',
  tryWith: async (guard) => {
    const { core, key, clientId } = await siteWithVictim({ hasKey: true })
    if (guard === 'up') await core.registry.revoke(clientId, { cut: true })
    const machine = new Machine(core)
    machine.prove(await machine.named(key, { bootId: OTHER_BOOT_ID }), key)
    return await machine.isBelieved()
  },
}

function tokenAttack(
  name: string,
  prepare: (core: TestCore) => void,
  usesWhenDown: number,
): Attack {
  return {
    name,
    tryWith: async (guard) => {
      const core = createTestCore()
      const untilMs = core.clock.nowMs + HOUR_MS
      const uses = guard === 'up' ? 1 : usesWhenDown
      const { token } = await core.grants.createToken({ untilMs, uses, vdisks: [] })
      if (guard === 'up') prepare(core)
      if (usesWhenDown > 1) await strangerBy(core, { mac: VICTIM_MAC, joinToken: token })
      const second = { mac: OTHER_MAC, joinToken: token, bootId: OTHER_BOOT_ID }
      const { state } = await strangerBy(core, second)
      return state === 'approved'
    },
  }
}

const usedToken = tokenAttack('a join token once more', () => undefined, 2)
const oldToken = tokenAttack(
  'a join token after its time',
  (core) => {
    core.clock.nowMs += HOUR_MS
  },
  1,
)

const TOKEN_GUESSES = 500

/** Control: the token itself. */
const guessedToken: Attack = {
  name: 'join tokens that were guessed',
  tryWith: async (guard) => {
    const core = createTestCore()
    const wish = { untilMs: core.clock.nowMs + HOUR_MS, uses: 1, vdisks: [] }
    const { token } = await core.grants.createToken(wish)
    for (let at = 0; at < TOKEN_GUESSES; at += 1) {
      const digits = at.toString(36).padStart(3, '0')
      const guess = guard === 'up' ? `${token.slice(0, -3)}${digits}` : token
      if (guess === token && guard === 'up') continue
      const { state } = await strangerBy(core, { mac: OTHER_MAC, joinToken: guess })
      if (state === 'approved') return true
    }
    return false
  },
}

const CODES = 400
/** So many that two of them share the first three letters, and no two all eight. */
const CODE_PART = 3

/** He makes keys until one shows the code of the machine beside him. Control: codes of three letters. */
const guessedCode: Attack = {
  name: 'a key with the code of another machine',
  tryWith: async (guard) => {
    const core = createTestCore()
    const codes = new Set<string>()
    for (let at = 0; at < CODES; at += 1) {
      const machine = new Machine(core)
      const mac = `52:54:00:00:${byte(at >> 8)}:${byte(at & 0xff)}`
      const { enrolCode = '' } = await machine.provenBy(newKey(), { mac })
      const code = guard === 'up' ? enrolCode : enrolCode.slice(0, CODE_PART)
      if (codes.has(code)) return true
      codes.add(code)
      machine.session.disconnected()
    }
    return false
  },
}

/** Control: the vDisk is for anyone. */
const withoutKey: Attack = {
  name: 'a vDisk for the authenticated, without a key',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: false })
    if (guard === 'up') await core.catalog.setAccess('lab', 'authenticated')
    const { machine } = await strangerBy(core, { bootId: OTHER_BOOT_ID })
    return await machine.gets('lab')
  },
}

/** Control: it is assigned. */
const notAssigned: Attack = {
  name: 'a version that is not assigned, by its id',
  tryWith: async (guard) => {
    const { core, clientId } = await siteWithVictim({ hasKey: false })
    if (guard === 'down') await core.registry.assign(clientId, ['other'], { only: false })
    const versionId = await versionOf(core, 'other')
    const { machine } = await strangerBy(core, { bootId: OTHER_BOOT_ID })
    return await machine.gets('other', versionId)
  },
}

/** Control: approved. */
const notApproved: Attack = {
  name: 'a vDisk before anybody approved',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: false })
    const mac = guard === 'up' ? OTHER_MAC : VICTIM_MAC
    const { machine } = await strangerBy(core, { mac, bootId: OTHER_BOOT_ID })
    return await machine.gets('lab')
  },
}

/** A boot that has a version open keeps it; another machine that says it is that boot does not. Control: it is. */
const otherBootId: Attack = {
  name: 'the boot id of a running client',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: false })
    const first = await strangerBy(core, { mac: VICTIM_MAC })
    invariant(await first.machine.gets('lab'), 'the client runs')
    const versionId = await versionOf(core, 'lab')
    const mac = guard === 'up' ? OTHER_MAC : VICTIM_MAC
    const { machine } = await strangerBy(core, { mac, bootId: BOOT_ID })
    return await machine.gets('lab', versionId)
  },
}

/** Chunks of a vDisk that was never opened. Control: it is open. */
const objectsUnopened: Attack = {
  name: 'chunks of a vDisk that is not open',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: false })
    const { machine } = await strangerBy(core, { bootId: OTHER_BOOT_ID })
    if (guard === 'down') invariant(await machine.gets('lab'), 'the client runs')
    machine.session.receive(encodeRequest({ priority: 0, objects: [{ level: 0, position: 0 }] }))
    for (;;) {
      const item = await machine.socket.next()
      if ('object' in item) return true
      if ('closed' in item) return false
    }
  },
}

/** Control: the protocol that is spoken. */
const otherProtocol: Attack = {
  name: 'a protocol without proofs',
  tryWith: async (guard) => {
    const { core } = await siteWithVictim({ hasKey: false })
    const machine = new Machine(core)
    machine.say(hello({ protocol: guard === 'up' ? 1 : PROTOCOL_VERSION, bootId: OTHER_BOOT_ID }))
    const item = await machine.socket.next()
    return 'message' in item && item.message.kind === 'identity'
  },
}

/** Control: the machine has proven that it is the client. */
function settingsAttack(name: string, has: (settings: Identity['settings']) => boolean): Attack {
  return {
    name,
    tryWith: async (guard) => {
      const { core, key, clientId } = await siteWithVictim({ hasKey: guard === 'down' })
      await core.clientSettings.set(clientId, {
        values: { VPN_KEY: { value: 'secret', isSecret: true } },
      })
      const machine = new Machine(core)
      if (guard === 'down') return has((await machine.provenBy(key)).settings)
      machine.say(hello({ mac: VICTIM_MAC, bootId: OTHER_BOOT_ID }))
      const { settings } = await machine.socket.nextMessage('identity')
      invariant(settings !== undefined, 'it is the client, as far as anybody can tell')
      return has(settings)
    },
  }
}

const secretSettings = settingsAttack(
  'secret settings of a client, by its MAC',
  (settings) => settings?.values.some(({ name }) => name === 'VPN_KEY') === true,
)
const sshHostKey = settingsAttack(
  'the SSH host key of a client, by its MAC',
  (settings) => settings?.sshHostKey !== undefined,
)

/** The clock of the machine is what he says; the server's counts. Control: it is not over. */
const skewedClock: Attack = {
  name: 'a join token that is over, by a clock that is years slow',
  tryWith: async (guard) => {
    const core = createTestCore()
    const untilMs = core.clock.nowMs + HOUR_MS
    const { token } = await core.grants.createToken({ untilMs, uses: 1, vdisks: [] })
    if (guard === 'up') core.clock.nowMs += HOUR_MS
    const fields = { mac: OTHER_MAC, joinToken: token, uptimeSeconds: guard === 'up' ? 1e9 : 1 }
    return (await strangerBy(core, fields)).state === 'approved'
  },
}

/** A machine that has the UUID of a client that is off, and a card of its own. Control: its card, too. */
const copiedUuid: Attack = {
  name: 'the UUID of a client that is off',
  tryWith: async (guard) => {
    const core = createTestCore()
    await core.addVDisk('lab')
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const factsOf = (mac: string) => ({ macs: [mac], uuid })
    const client = await core.registry.identify(factsOf(VICTIM_MAC), '192.0.2.1')
    await core.registry.assign(client.id, ['lab'], { only: true })
    await core.registry.approve(client.id)
    const machine = new Machine(core)
    const facts = factsOf(guard === 'up' ? OTHER_MAC : VICTIM_MAC)
    machine.say({ ...hello({ bootId: OTHER_BOOT_ID }), facts })
    await machine.socket.nextMessage('identity')
    return await machine.gets('lab')
  },
}

export const ATTACKS: readonly Attack[] = [
  guessedMac,
  otherKey,
  replayedProof,
  relayedProof,
  revokedKey,
  usedToken,
  oldToken,
  guessedToken,
  guessedCode,
  withoutKey,
  notAssigned,
  notApproved,
  otherBootId,
  objectsUnopened,
  otherProtocol,
  secretSettings,
  sshHostKey,
  skewedClock,
  copiedUuid,
  ...ADMIN_ATTACKS,
]

async function versionOf(core: TestCore, vdisk: string): Promise<string> {
  const versionId = (await core.catalog.tryGet(vdisk))?.versions[0]?.versionId
  invariant(versionId !== undefined, 'the vDisk has a version')
  return versionId
}

function byte(value: number): string {
  return value.toString(16).padStart(2, '0')
}
