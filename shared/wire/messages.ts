/**
 * The control messages, as PROTOCOL.md §3 describes them. One schema per message; the type is
 * derived from it, so what is accepted and what is declared cannot differ.
 */
import * as v from 'valibot'
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'
import { clientSettingsSchema } from '#shared/identity/client-settings.ts'
import {
  DEVICE_KEY_BYTES_MAX,
  DEVICE_SIGNATURE_BYTES,
  KEY_PLACES,
  NONCE_BYTES,
} from '#shared/identity/device-key.ts'
import { machineFactsSchema } from '#shared/identity/machine-facts.ts'
import { ROOT_RECORD_BYTES } from '#shared/manifest/version-root.ts'
import { isHostName } from '#shared/names.ts'
import {
  ASSIGNMENTS_MAX,
  FIRST_PUSH_BYTES_MAX,
  JOIN_TOKEN_LENGTH_MAX,
  NAME_LENGTH_MAX,
  PARTITIONS_MAX,
  VOLUME_SEGMENTS_MAX,
} from './limits.ts'

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(NAME_LENGTH_MAX))
const text = v.pipe(v.string(), v.maxLength(1024))
const id = v.pipe(v.string(), v.regex(/^[0-9a-f]{8,64}$/))
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER))
const seconds = v.pipe(v.number(), v.minValue(0), v.finite())

/** Bytes in base64. */
function base64(bytesMax: number) {
  return v.pipe(v.string(), v.base64(), v.maxLength(Math.ceil(bytesMax / 3) * 4))
}

/** An SPKI of P-256 has 91 bytes, a signature 64. */
const SIGNER_KEY_BYTES_MAX = 256
const SIGNATURE_BYTES_MAX = 128

/** A version's root with the server's word for it (shared/manifest/version-root.ts). */
export const signedRootSchema = v.object({
  record: base64(ROOT_RECORD_BYTES),
  signature: base64(SIGNATURE_BYTES_MAX),
  signerKey: base64(SIGNER_KEY_BYTES_MAX),
})

/** How the rest of the vDisk is fetched in the background. */
export const hydrationSchema = v.object({
  /** off: only what is read; run: everything, while the client is idle; pause: later. */
  mode: v.picklist(['off', 'run', 'pause']),
  /** Bytes per second at most; 0 for as fast as it harms nobody. */
  rateBytesPerSecond: count,
})
export type Hydration = v.InferOutput<typeof hydrationSchema>

/** Where what a client writes over a vDisk is kept. The booted system does not see it. */
export const writeCacheSchema = v.object({
  /** auto: in memory, then on the local disk, then on the server; else there and nowhere else. */
  place: v.picklist(['auto', 'ram', 'disk', 'server']),
  /** Whether the next boot finds it again. */
  isKept: v.boolean(),
  /** Most bytes; 0 for as much as there is room for. */
  limitBytes: count,
})
export type WriteCacheSettings = v.InferOutput<typeof writeCacheSchema>

/** 1-based partition number; 0 when the vDisk is a bare file system. */
const partition = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(PARTITIONS_MAX))

/** Where a linear logical volume of LVM lies inside a vDisk. */
export const volumeLocationSchema = v.object({
  /** The device mapper's: group and volume, parted by a dash. */
  name: v.pipe(v.string(), v.regex(/^[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126}$/)),
  /** The device mapper's, by which the system's own LVM knows that the volume is active. */
  uuid: v.pipe(v.string(), v.regex(/^LVM-[A-Za-z0-9]{64}$/)),
  /** In the order of the volume's bytes. Sectors of 512 bytes, counted from the partition's beginning. */
  segments: v.pipe(
    v.array(v.object({ partition, startSector: count, sectors: v.pipe(count, v.minValue(1)) })),
    v.minLength(1),
    v.maxLength(VOLUME_SEGMENTS_MAX),
  ),
})
export type VolumeLocation = v.InferOutput<typeof volumeLocationSchema>

/** Where a file system lies inside a vDisk. */
export const fileSystemLocationSchema = v.object({
  /** Of a logical volume: where it begins. */
  partition,
  /** As `mount -t` takes it: ext4, xfs, btrfs. */
  fsType: v.pipe(v.string(), v.regex(/^[a-z0-9]{2,16}$/)),
  /** Extra mount options, comma-separated (`subvol=@`); empty for none. */
  options: v.pipe(v.string(), v.regex(/^[A-Za-z0-9@=,._/-]{0,200}$/)),
  /** The logical volume it is on; absent for one that is on the partition itself. */
  volume: v.optional(volumeLocationSchema),
})
export type FileSystemLocation = v.InferOutput<typeof fileSystemLocationSchema>

/** Where the root file system lies inside a vDisk, found at import. */
export const rootLocationSchema = v.object({
  ...fileSystemLocationSchema.entries,
  /** What is mounted at `/usr` before the system's first process; absent when that is in the root. */
  usr: v.optional(fileSystemLocationSchema),
})
export type RootLocation = v.InferOutput<typeof rootLocationSchema>

// Agent to server ------------------------------------------------------------------------------

export const helloSchema = v.object({
  kind: v.literal('hello'),
  protocol: count,
  /** Version of the agent's package, for the record. */
  agentVersion: v.pipe(v.string(), v.maxLength(64)),
  /** Random per boot, 32 hex digits; the same on a reconnect and across kexec. */
  bootId: id,
  facts: machineFactsSchema,
  /** Kernel release the agent runs on (`uname -r`). */
  kernelRelease: v.pipe(v.string(), v.maxLength(128)),
  /** Seconds since the kernel started, so that the server can place the agent's phases in time. */
  uptimeSeconds: seconds,
  /** The machine's own key; absent when it has no place to keep one. Answered by `challenge`. */
  key: v.optional(
    v.object({
      /** SubjectPublicKeyInfo. */
      spki: base64(DEVICE_KEY_BYTES_MAX),
      place: v.picklist(KEY_PLACES),
    }),
  ),
  /** What a technician brought along: admits this machine. */
  joinToken: v.optional(v.pipe(v.string(), v.maxLength(JOIN_TOKEN_LENGTH_MAX))),
})

/** Proves that the machine has the key it named, on this connection. */
export const proofSchema = v.object({
  kind: v.literal('proof'),
  signature: base64(DEVICE_SIGNATURE_BYTES),
})

/** Asks for the vDisk the person (or the countdown) chose. Answered by `opened` or `error`. */
export const openSchema = v.object({
  kind: v.literal('open'),
  vdisk: name,
  /** Version to open; absent for the one in production. A reconnecting agent names the one it has. */
  versionId: v.optional(id),
  /**
   * How many bytes of the boot list the server may push at once, without being asked. 0 when the
   * client may have them already.
   */
  firstPushBytes: v.pipe(count, v.maxValue(FIRST_PUSH_BYTES_MAX)),
})

export const phaseSchema = v.object({
  kind: v.literal('phase'),
  phase: v.picklist(BOOT_PHASES),
  uptimeSeconds: seconds,
})

/** Counters of the agent, sent now and then and before `bye`. */
export const statusSchema = v.object({
  kind: v.literal('status'),
  rssBytes: count,
  ramTierBytes: count,
  writeCacheBytes: count,
  writeCacheLimitBytes: count,
  /** Places that it has, in the order in which they are filled. */
  writeCachePlaces: v.pipe(v.array(v.picklist(['ram', 'disk', 'server'])), v.maxLength(3)),
  /** Writes of the system that wait for room. */
  writesWaiting: count,
  demandReads: count,
  demandReadBytes: count,
  chunksReceived: count,
  wireBytesReceived: count,
  /** Objects that did not verify and were asked for again. */
  objectsCorrupt: count,
  /** How well the boot list foresaw this boot. */
  prefetch: v.object({
    /** Chunks whose first read found them here… */
    hits: count,
    /** … on their way … */
    late: count,
    /** … or not even asked for. */
    misses: count,
    pushedBytes: count,
    /** Of these, bytes of chunks that nobody has read. */
    unusedBytes: count,
  }),
  /** The cache on the local disk. */
  diskCache: v.object({
    state: v.picklist(['none', 'ready', 'failed']),
    usedBytes: count,
    capacityBytes: count,
    /** Bytes it may still write today. */
    writeBudgetLeftBytes: count,
    /** What is wrong with it; empty when nothing is. */
    problem: v.pipe(v.string(), v.maxLength(200)),
  }),
  /** How much of the open version lies on the local disk, in stored bytes as far as they are known. */
  hydration: v.object({
    mode: v.picklist(['off', 'run', 'pause', 'complete']),
    localBytes: count,
    versionBytes: count,
  }),
})

/** Something a person should know: an error or a warning met on the client. */
export const noticeSchema = v.object({
  kind: v.literal('notice'),
  level: v.picklist(['info', 'warning', 'error']),
  message: text,
})

/** The last message of a boot: the root is unmounted and everything acknowledged is where it belongs. */
export const byeSchema = v.object({
  kind: v.literal('bye'),
  /** What the system does next. */
  reason: v.picklist(['poweroff', 'reboot', 'halt', 'kexec']),
})

export const agentMessageSchema = v.variant('kind', [
  helloSchema,
  proofSchema,
  openSchema,
  phaseSchema,
  statusSchema,
  noticeSchema,
  byeSchema,
])
export type AgentMessage = v.InferOutput<typeof agentMessageSchema>
export type Hello = v.InferOutput<typeof helloSchema>
export type Open = v.InferOutput<typeof openSchema>
export type Status = v.InferOutput<typeof statusSchema>

// Server to agent ------------------------------------------------------------------------------

/** Answer to a `hello` with a key: what the proof is to be about. */
export const challengeSchema = v.object({
  kind: v.literal('challenge'),
  nonce: base64(NONCE_BYTES),
})

/** One line of the boot menu. */
export const offerSchema = v.object({
  vdisk: name,
  title: v.pipe(v.string(), v.maxLength(120)),
  sizeBytes: count,
})
export type Offer = v.InferOutput<typeof offerSchema>

/**
 * Who this machine is and what it may boot. Sent as the answer to `hello`, and again whenever the
 * administrator changes it while the client has not opened a vDisk yet.
 */
export const identitySchema = v.object({
  kind: v.literal('identity'),
  /** approved: may boot what is offered; pending: waits for the administrator; refused: goes away. */
  state: v.picklist(['approved', 'pending', 'refused']),
  clientId: id,
  hostname: v.pipe(v.string(), v.check(isHostName, 'no host name')),
  /** 32 hex digits, as machine-id(5). */
  machineId: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  serverName: text,
  offers: v.pipe(v.array(offerSchema), v.maxLength(ASSIGNMENTS_MAX)),
  /** Name of the offer that boots when nobody chooses; absent when there are none. */
  defaultVdisk: v.optional(name),
  /** Countdown of the menu; 0 waits for ever. */
  menuSeconds: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3600)),
  /** Milliseconds since 1970, for clients whose clock is years off. */
  serverTimeMs: count,
  /** Whether the machine has proven by its key that it is this client. */
  isAuthenticated: v.optional(v.boolean()),
  /** To be compared by the administrator, while nobody has vouched for the machine's key. */
  enrolCode: v.optional(v.pipe(v.string(), v.maxLength(16))),
  /** What else the person in front of the machine should know: a sentence. */
  note: v.optional(v.pipe(v.string(), v.maxLength(200))),
  /** vDisks of its assignments that only machines with a proven key get. */
  withheld: v.optional(count),
  /** What it is told beside who it is; sent again when it changes, also to a running system. */
  settings: v.optional(clientSettingsSchema),
  /** What people at the running system should know: a sentence. */
  warning: v.optional(v.pipe(v.string(), v.maxLength(200))),
})
export type Identity = v.InferOutput<typeof identitySchema>

export const openedSchema = v.object({
  kind: v.literal('opened'),
  vdisk: name,
  versionId: id,
  sizeBytes: count,
  /** Stored bytes of all its chunks. */
  storedBytes: count,
  manifest: signedRootSchema,
  hydration: hydrationSchema,
  writeCache: writeCacheSchema,
  /** What of it the server takes; absent when it takes nothing. */
  writes: v.optional(
    v.object({
      /** How much more may be written there. */
      roomBytes: count,
      /** Runs of the write map that follows. */
      runs: count,
    }),
  ),
  root: rootLocationSchema,
  /** The kernel this version brings; absent when it has none and runs on whatever kernel is up. */
  kernel: v.optional(
    v.object({
      /** SHA-256 of the kernel image, hex: equal to `bootwire.kernel=` when it runs already. */
      id,
      release: v.pipe(v.string(), v.maxLength(128)),
      /** Paths below the server's root, to be fetched over TLS for kexec. */
      kernelPath: text,
      initrdPaths: v.pipe(v.array(text), v.maxLength(8)),
    }),
  ),
})
export type Opened = v.InferOutput<typeof openedSchema>

/** Answer to `hello` or `open` that failed; the session stays open unless the server closes it. */
export const errorSchema = v.object({
  kind: v.literal('error'),
  /** A key of ERROR_KINDS. */
  code: v.pipe(v.string(), v.maxLength(40)),
  message: text,
})

/** The administrator changed how the rest of the vDisk is fetched. */
export const hydrateSchema = v.object({ kind: v.literal('hydrate'), hydration: hydrationSchema })

export const serverMessageSchema = v.variant('kind', [
  challengeSchema,
  identitySchema,
  openedSchema,
  hydrateSchema,
  errorSchema,
])
export type ServerMessage = v.InferOutput<typeof serverMessageSchema>
