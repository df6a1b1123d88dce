import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import type { AgentMessage, Opened, ServerMessage, Status } from '#shared/wire/messages.ts'
import { AGENT_MESSAGES, SERVER_MESSAGES } from './wire-vectors.ts'

/** Encodes what the types would not allow, as a peer of another make might. */
function refuses(message: unknown, path: string): void {
  const frame = encodeMessage(message as AgentMessage | ServerMessage)
  const kinds = ['challenge', 'identity', 'opened', 'hydrate', 'error']
  const isServers = kinds.includes((message as { readonly kind: string }).kind)
  assert.throws(() => (isServers ? decodeServerMessage : decodeAgentMessage)(frame), {
    code: 'MESSAGE_INVALID',
    message: new RegExp(` message: ${path.replaceAll('.', '\\.')}: `),
  })
}

const hello = AGENT_MESSAGES['hello-all']
const open = AGENT_MESSAGES['open-all']
const status = AGENT_MESSAGES['status-all']
const identity = SERVER_MESSAGES['identity-all']
const opened = SERVER_MESSAGES['opened-all']
const SEGMENT = { partition: 1, startSector: 0, sectors: 1 }

describe('control messages', () => {
  it('every field is bounded, and the message names the one that is not', () => {
    refuses({ ...hello, protocol: -1 }, 'protocol')
    refuses({ ...hello, protocol: 1.5 }, 'protocol')
    refuses({ ...hello, bootId: 'ABCDEF01' }, 'bootId')
    refuses({ ...hello, bootId: '0'.repeat(65) }, 'bootId')
    refuses({ ...hello, agentVersion: 'x'.repeat(65) }, 'agentVersion')
    refuses({ ...hello, facts: { macs: ['x'] } }, 'facts.macs.0')
    refuses({ ...hello, kernelRelease: 'x'.repeat(129) }, 'kernelRelease')
    for (const uptimeSeconds of [-0.1, Number.NaN, Number.POSITIVE_INFINITY, '1']) {
      refuses({ ...hello, uptimeSeconds }, 'uptimeSeconds')
    }
    refuses({ ...open, vdisk: '' }, 'vdisk')
    refuses({ ...open, vdisk: 'x'.repeat(64) }, 'vdisk')
    refuses({ ...open, versionId: 'latest' }, 'versionId')
    refuses({ ...open, firstPushBytes: 1_048_577 }, 'firstPushBytes')
    refuses({ ...status, demandReads: 2 ** 53 }, 'demandReads')
    refuses({ ...status, hydration: undefined }, 'hydration')
    const diskCache = { ...(status as Status | undefined)?.diskCache, problem: 'x'.repeat(201) }
    refuses({ ...status, diskCache }, 'diskCache.problem')
    refuses({ kind: 'phase', phase: 'lunch', uptimeSeconds: 1 }, 'phase')
    refuses({ kind: 'notice', level: 'panic', message: '' }, 'level')
    refuses({ kind: 'notice', level: 'info', message: 'x'.repeat(1025) }, 'message')
    refuses({ kind: 'bye', reason: 'sleep' }, 'reason')
    refuses({ kind: 'unheard of' }, 'kind')
  })

  it('so is every field of the server', () => {
    refuses({ ...identity, state: 'maybe' }, 'state')
    refuses({ ...identity, machineId: '0'.repeat(31) }, 'machineId')
    refuses({ ...identity, menuSeconds: 3601 }, 'menuSeconds')
    const offer = { vdisk: 'd', title: '', sizeBytes: 1 }
    refuses({ ...identity, offers: Array.from({ length: 65 }, () => offer) }, 'offers')
    refuses({ ...identity, offers: [{ ...offer, title: 'x'.repeat(121) }] }, 'offers.0.title')
    refuses({ ...opened, root: { partition: 129, fsType: 'xfs', options: '' } }, 'root.partition')
    refuses({ ...opened, root: { partition: 1, fsType: "x'f", options: '' } }, 'root.fsType')
    refuses({ ...opened, root: { partition: 1, fsType: 'xfs', options: "a'b" } }, 'root.options')
    const volume = { name: 'v', uuid: `LVM-${'u'.repeat(64)}`, segments: [SEGMENT] }
    const refusesVolume = (fields: object, where: string) => {
      const root = { partition: 1, fsType: 'xfs', options: '', volume: { ...volume, ...fields } }
      refuses({ ...opened, root }, `root.volume.${where}`)
    }
    refusesVolume({ name: 'a;b' }, 'name')
    refusesVolume({ name: '-a' }, 'name')
    refusesVolume({ name: 'a/b' }, 'name')
    refusesVolume({ uuid: 'LVM-1' }, 'uuid')
    refusesVolume({ segments: [] }, 'segments')
    refusesVolume({ segments: Array.from({ length: 65 }, () => SEGMENT) }, 'segments')
    refusesVolume({ segments: [{ ...SEGMENT, sectors: 0 }] }, 'segments.0.sectors')
    const manifest = (opened as Opened | undefined)?.manifest
    refuses({ ...opened, manifest: { ...manifest, record: 'no base 64!' } }, 'manifest.record')
    refuses({ ...opened, manifest: { ...manifest, record: 'A'.repeat(92) } }, 'manifest.record')
    const hydration = { mode: 'fast', rateBytesPerSecond: 0 }
    refuses({ ...opened, hydration }, 'hydration.mode')
    refuses({ kind: 'hydrate', hydration }, 'hydration.mode')
    refuses({ ...opened, kernel: { id: '0'.repeat(64) } }, 'kernel.release')
    refuses({ kind: 'error', code: 'X'.repeat(41), message: '' }, 'code')
  })

  it('a message of the other side is refused', () => {
    assert.ok(hello !== undefined && opened !== undefined)
    assert.throws(() => decodeServerMessage(encodeMessage(hello)), { code: 'MESSAGE_INVALID' })
    assert.throws(() => decodeAgentMessage(encodeMessage(opened)), { code: 'MESSAGE_INVALID' })
  })

  it('encodeMessage leaves out fields that are undefined', () => {
    const least = { kind: 'open', vdisk: 'd', firstPushBytes: 0 } as const
    const message = { ...least, versionId: undefined } as unknown as AgentMessage
    assert.deepEqual(encodeMessage(message), encodeMessage(least))
    const deep = { ...hello, facts: { macs: [], uuid: undefined } } as unknown as AgentMessage
    assert.deepEqual(
      encodeMessage(deep),
      encodeMessage({ ...hello, facts: { macs: [] } } as AgentMessage),
    )
  })

  it('encodeMessage breaks an invariant rather than send what the peer refuses for its size', () => {
    const macs = Array.from({ length: 4000 }, () => '52:54:00:12:34:56')
    const message = { ...hello, facts: { macs } } as AgentMessage
    assert.throws(() => encodeMessage(message), /Invariant broken: control message of \d+ bytes/)
  })
})
