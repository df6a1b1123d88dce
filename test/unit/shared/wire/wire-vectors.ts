/**
 * What each file of test/golden/wire/protocol-1 says: every message with all of its fields and with
 * the fewest, every frame with fields that differ from each other. Frozen with protocol 1: a vector
 * may be added, none may change.
 */
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'
import { CHUNK_ENCODING, type ChunkHeader, type ChunkRequest } from '#shared/wire/frame.ts'
import type { AgentMessage, ServerMessage } from '#shared/wire/messages.ts'

const BOOT_ID = '0123456789abcdef0123456789abcdef'
const VERSION_ID = 'c0ffee00'.repeat(8)
const KERNEL_ID = 'feed5eed'.repeat(8)

export const AGENT_MESSAGES: Readonly<Record<string, AgentMessage>> = {
  'hello-all': {
    kind: 'hello',
    protocol: 1,
    agentVersion: '0.1.0-test+1',
    bootId: BOOT_ID,
    facts: {
      macs: ['52:54:00:12:34:56', '00:00:5e:00:53:ff'],
      uuid: '4c4c4544-0043-3510-8052-b4c04f564433',
      systemSerial: 'CN-1234567',
      boardSerial: '/B0ARD/é',
      manufacturer: 'Größe GmbH \u{1f5a5}',
      product: 'Thin Client 5',
      memoryBytes: 8_589_934_592,
    },
    kernelRelease: '6.12.9-amd64',
    uptimeSeconds: 3.25,
  },
  'hello-least': {
    kind: 'hello',
    protocol: 1,
    agentVersion: '',
    bootId: '01234567',
    facts: { macs: [] },
    kernelRelease: '',
    uptimeSeconds: 0,
  },
  'open-all': { kind: 'open', vdisk: 'debian-12.7', versionId: VERSION_ID },
  'open-least': { kind: 'open', vdisk: 'd' },
  ...Object.fromEntries(
    BOOT_PHASES.map((phase, at) => [
      `phase-${phase}`,
      { kind: 'phase', phase, uptimeSeconds: at + 0.5 } as const,
    ]),
  ),
  'status-all': {
    kind: 'status',
    rssBytes: 127,
    ramTierBytes: 128,
    writeCacheBytes: 65_535,
    writeCacheLimitBytes: 65_536,
    demandReads: 4_294_967_295,
    demandReadBytes: 4_294_967_296,
    chunksReceived: 0,
    wireBytesReceived: Number.MAX_SAFE_INTEGER,
  },
  'notice-info': { kind: 'notice', level: 'info', message: '' },
  'notice-warning': { kind: 'notice', level: 'warning', message: 'The write cache is at 75 %' },
  'notice-error': { kind: 'notice', level: 'error', message: 'x'.repeat(1024) },
  'bye-poweroff': { kind: 'bye', reason: 'poweroff' },
  'bye-reboot': { kind: 'bye', reason: 'reboot' },
  'bye-halt': { kind: 'bye', reason: 'halt' },
  'bye-kexec': { kind: 'bye', reason: 'kexec' },
}

export const SERVER_MESSAGES: Readonly<Record<string, ServerMessage>> = {
  'identity-all': {
    kind: 'identity',
    state: 'approved',
    clientId: '00000000c11e0001',
    hostname: 'client-1',
    machineId: BOOT_ID,
    serverName: 'Server in room 5',
    offers: [
      { vdisk: 'debian-12.7', title: 'Debian 12', sizeBytes: 107_374_182_400 },
      { vdisk: 'kiosk', title: '', sizeBytes: 4096 },
    ],
    defaultVdisk: 'kiosk',
    menuSeconds: 3600,
    serverTimeMs: 1_767_225_600_000,
  },
  'identity-pending': {
    kind: 'identity',
    state: 'pending',
    clientId: '00000000',
    hostname: 'c',
    machineId: '0'.repeat(32),
    serverName: '',
    offers: [],
    menuSeconds: 0,
    serverTimeMs: 0,
  },
  'identity-refused': {
    kind: 'identity',
    state: 'refused',
    clientId: '00000000',
    hostname: 'c',
    machineId: 'f'.repeat(32),
    serverName: 'S',
    offers: [],
    menuSeconds: 10,
    serverTimeMs: 1,
  },
  'opened-all': {
    kind: 'opened',
    vdisk: 'debian-12.7',
    versionId: VERSION_ID,
    sizeBytes: 8_796_093_022_208,
    chunkBytes: 131_072,
    root: { partition: 128, fsType: 'btrfs', options: 'subvol=@,compress=zstd' },
    kernel: {
      id: KERNEL_ID,
      release: '6.12.9-amd64',
      kernelPath: `/files/kernel/${KERNEL_ID}/vmlinuz`,
      initrdPaths: ['/files/agent.img', `/files/kernel/${KERNEL_ID}/modules.img`],
    },
  },
  'opened-least': {
    kind: 'opened',
    vdisk: 'd',
    versionId: 'c0ffee00',
    sizeBytes: 0,
    chunkBytes: 4096,
    root: { partition: 0, fsType: 'xfs', options: '' },
  },
  'error-all': { kind: 'error', code: 'VDISK_GONE', message: 'No vDisk "kiosk" is offered' },
  'error-least': { kind: 'error', code: '', message: '' },
}

export const CHUNK_REQUESTS: Readonly<Record<string, ChunkRequest>> = {
  'chunk-request-demand': { requestId: 1, chunkIndex: 0, priority: 0 },
  'chunk-request-largest': { requestId: 0xffff_fffe, chunkIndex: 0xffff_fffd, priority: 255 },
  'chunk-request-prefetch': { requestId: 0x0102_0304, chunkIndex: 0x0506_0708, priority: 1 },
}

export interface ChunkVector {
  readonly header: ChunkHeader
  readonly payload: Uint8Array
}

export const CHUNKS: Readonly<Record<string, ChunkVector>> = {
  'chunk-zero': {
    header: { requestId: 0x0102_0304, encoding: CHUNK_ENCODING.zero, rawBytes: 131_072 },
    payload: new Uint8Array(0),
  },
  'chunk-raw': {
    header: { requestId: 0xffff_fffe, encoding: CHUNK_ENCODING.raw, rawBytes: 5 },
    payload: Buffer.from('bytes'),
  },
  // 8 KiB of "bootwire", as zstd 1.5 packs them.
  'chunk-zstd': {
    header: { requestId: 7, encoding: CHUNK_ENCODING.zstd, rawBytes: 8192 },
    payload: Buffer.from('28b52ffd60001f85000040626f6f74776972650100f5bfbe7001', 'hex'),
  },
}
