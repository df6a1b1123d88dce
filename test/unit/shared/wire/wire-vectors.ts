/**
 * What each file of test/golden/wire/protocol-2 says: every message with all of its fields and with
 * the fewest, every frame with fields that differ from each other. Frozen with protocol 2: a vector
 * may be added, none may change.
 */
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'
import {
  type BootListEntry,
  CHUNK_ENCODING,
  NO_PAYLOAD,
  type ObjectHeader,
  type ObjectRequest,
  type PushRange,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import type { AgentMessage, ServerMessage } from '#shared/wire/messages.ts'

const BOOT_ID = '0123456789abcdef0123456789abcdef'
const VERSION_ID = 'c0ffee00'.repeat(8)
const KERNEL_ID = 'feed5eed'.repeat(8)

export const AGENT_MESSAGES: Readonly<Record<string, AgentMessage>> = {
  'hello-all': {
    kind: 'hello',
    protocol: 2,
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
    protocol: 2,
    agentVersion: '',
    bootId: '01234567',
    facts: { macs: [] },
    kernelRelease: '',
    uptimeSeconds: 0,
  },
  'open-all': {
    kind: 'open',
    vdisk: 'debian-12.7',
    versionId: VERSION_ID,
    firstPushBytes: 1_048_576,
  },
  'open-least': { kind: 'open', vdisk: 'd', firstPushBytes: 0 },
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
    writeCachePlaces: ['ram', 'disk', 'server'],
    writesWaiting: 17,
    demandReads: 4_294_967_295,
    demandReadBytes: 4_294_967_296,
    chunksReceived: 0,
    wireBytesReceived: Number.MAX_SAFE_INTEGER,
    objectsCorrupt: 1,
    prefetch: { hits: 900, late: 7, misses: 3, pushedBytes: 11_000_000, unusedBytes: 200_000 },
    diskCache: {
      state: 'failed',
      usedBytes: 1_000_000_000,
      capacityBytes: 2_000_000_000,
      writeBudgetLeftBytes: 0,
      problem: 'the disk does not answer',
    },
    hydration: { mode: 'pause', localBytes: 1_000_000, versionBytes: 120_000_000 },
  },
  'hello-key': {
    kind: 'hello',
    protocol: 2,
    agentVersion: '1',
    bootId: BOOT_ID,
    facts: { macs: [] },
    kernelRelease: '6.1',
    uptimeSeconds: 1,
    key: { spki: Buffer.alloc(44, 3).toString('base64'), place: 'tpm' },
    joinToken: `bwj_${'a'.repeat(43)}`,
  },
  proof: { kind: 'proof', signature: Buffer.alloc(64, 9).toString('base64') },
  'notice-info': { kind: 'notice', level: 'info', message: '' },
  'notice-warning': { kind: 'notice', level: 'warning', message: 'The write cache is at 75 %' },
  'notice-error': { kind: 'notice', level: 'error', message: 'x'.repeat(1024) },
  'bye-poweroff': { kind: 'bye', reason: 'poweroff' },
  'bye-reboot': { kind: 'bye', reason: 'reboot' },
  'bye-halt': { kind: 'bye', reason: 'halt' },
  'bye-kexec': { kind: 'bye', reason: 'kexec' },
}

export const SERVER_MESSAGES: Readonly<Record<string, ServerMessage>> = {
  challenge: { kind: 'challenge', nonce: Buffer.alloc(32, 5).toString('base64') },
  'identity-authenticated': {
    kind: 'identity',
    state: 'approved',
    clientId: '00000000c11e0001',
    hostname: 'client-1',
    machineId: BOOT_ID,
    serverName: 'S',
    offers: [],
    menuSeconds: 10,
    serverTimeMs: 1,
    isAuthenticated: true,
    withheld: 0,
  },
  'identity-settings': {
    kind: 'identity',
    state: 'approved',
    clientId: '00000000c11e0001',
    hostname: 'client-1',
    machineId: BOOT_ID,
    serverName: 'S',
    offers: [],
    menuSeconds: 10,
    serverTimeMs: 1,
    isAuthenticated: true,
    settings: {
      values: [
        { name: 'URL', value: 'https://a/' },
        { name: 'VPN_KEY', value: 'line\nline\n', isSecret: true },
      ],
      locale: 'de_AT.UTF-8',
      timezone: 'Europe/Vienna',
      keymap: 'de-latin1',
      sshHostKey: { privateKey: '-----BEGIN\n', publicKey: 'ssh-ed25519 AAAA root@a\n' },
    },
  },
  'identity-code': {
    kind: 'identity',
    state: 'pending',
    clientId: '00000000c11e0001',
    hostname: 'client-1',
    machineId: BOOT_ID,
    serverName: 'S',
    offers: [],
    menuSeconds: 10,
    serverTimeMs: 1,
    enrolCode: 'WDJB-MJHT',
    withheld: 2,
  },
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
    storedBytes: 3_000_000_000,
    manifest: {
      record: Buffer.from('r'.repeat(64)).toString('base64'),
      signature: Buffer.from('s'.repeat(64)).toString('base64'),
      signerKey: Buffer.from('k'.repeat(91)).toString('base64'),
    },
    hydration: { mode: 'run', rateBytesPerSecond: 5_000_000 },
    writeCache: { place: 'server', isKept: true, limitBytes: 8_589_934_592 },
    writes: { roomBytes: 8_589_934_592, runs: 70_000 },
    root: { partition: 128, fsType: 'btrfs', options: 'subvol=@,compress=zstd' },
    kernel: {
      id: KERNEL_ID,
      release: '6.12.9-amd64',
      kernelPath: `/files/kernel/${KERNEL_ID}/vmlinuz`,
      initrdPaths: ['/files/agent.img', `/files/kernel/${KERNEL_ID}/modules.img`],
    },
  },
  'opened-volumes': {
    kind: 'opened',
    vdisk: 'd',
    versionId: 'c0ffee00',
    sizeBytes: 0,
    storedBytes: 0,
    manifest: { record: '', signature: '', signerKey: '' },
    hydration: { mode: 'off', rateBytesPerSecond: 0 },
    writeCache: { place: 'auto', isKept: false, limitBytes: 0 },
    root: {
      partition: 2,
      fsType: 'ext4',
      options: '',
      volume: {
        name: 'my--group-root',
        uuid: `LVM-${'gV'.repeat(32)}`,
        segments: [
          { partition: 2, startSector: 2048, sectors: 8_388_608 },
          { partition: 3, startSector: 10_240, sectors: 1 },
        ],
      },
      usr: { partition: 4, fsType: 'btrfs', options: 'subvol=usr' },
    },
  },
  'opened-least': {
    kind: 'opened',
    vdisk: 'd',
    versionId: 'c0ffee00',
    sizeBytes: 0,
    storedBytes: 0,
    manifest: { record: '', signature: '', signerKey: '' },
    hydration: { mode: 'off', rateBytesPerSecond: 0 },
    writeCache: { place: 'auto', isKept: false, limitBytes: 0 },
    root: { partition: 0, fsType: 'xfs', options: '' },
  },
  hydrate: { kind: 'hydrate', hydration: { mode: 'pause', rateBytesPerSecond: 0 } },
  'error-all': { kind: 'error', code: 'VDISK_GONE', message: 'No vDisk "kiosk" is offered' },
  'error-least': { kind: 'error', code: '', message: '' },
}

export const REQUESTS: Readonly<Record<string, ObjectRequest>> = {
  'request-demand': { priority: 0, objects: [{ level: 0, position: 0x0102_0304 }] },
  // Who has nothing yet asks for a path and the chunk in one go.
  'request-path': {
    priority: 0,
    objects: [
      { level: 2, position: 0 },
      { level: 1, position: 7 },
      { level: 0, position: 28_900 },
    ],
  },
  'request-hydration': {
    priority: 2,
    objects: [
      { level: 0, position: 0xffff_ffff },
      { level: 4, position: 0 },
    ],
  },
  'request-none': { priority: 1, objects: [] },
}

export interface ObjectVector {
  readonly header: ObjectHeader
  readonly payload: Uint8Array
}

// 8 KiB of "bootwire", as zstd 1.5 packs them.
const ZSTD = Buffer.from('28b52ffd60001f85000040626f6f74776972650100f5bfbe7001', 'hex')
const RAW = Buffer.from('bytes')
const NOTHING = new Uint8Array(0)

const zstdChunk: ObjectVector = {
  header: {
    level: 0,
    position: 0x0102_0304,
    encoding: CHUNK_ENCODING.zstd,
    rawBytes: 8192,
    storedBytes: ZSTD.length,
  },
  payload: ZSTD,
}
const rawNode: ObjectVector = {
  header: { level: 1, position: 7, encoding: CHUNK_ENCODING.raw, rawBytes: 5, storedBytes: 5 },
  payload: RAW,
}
const absent: ObjectVector = {
  header: { level: 0, position: 28_900, encoding: NO_PAYLOAD.absent, rawBytes: 0, storedBytes: 0 },
  payload: NOTHING,
}
const unreadable: ObjectVector = {
  header: { level: 2, position: 9, encoding: NO_PAYLOAD.unreadable, rawBytes: 0, storedBytes: 0 },
  payload: NOTHING,
}

export const OBJECTS: Readonly<Record<string, readonly ObjectVector[]>> = {
  'objects-zstd': [zstdChunk],
  'objects-several': [rawNode, zstdChunk, absent],
  'objects-unreadable': [unreadable],
  'objects-none': [],
}

export const BOOT_LISTS: Readonly<Record<string, readonly BootListEntry[]>> = {
  'boot-list': [
    { level: 1, position: 0, storedBytes: 15_004 },
    { level: 0, position: 0, storedBytes: 4096 },
    { level: 0, position: 0x0102_0304, storedBytes: 0xff_ffff },
  ],
  'boot-list-none': [],
}

export const PUSHES: Readonly<Record<string, readonly PushRange[]>> = {
  push: [
    { begin: 0, end: 1 },
    { begin: 258, end: 16_384 },
  ],
}

export const TRACES: Readonly<Record<string, readonly TraceEntry[]>> = {
  trace: [
    { position: 0, atMs: 0 },
    { position: 0x0102_0304, atMs: 1500 },
    { position: 9, atMs: 0xffff_ffff },
  ],
}
