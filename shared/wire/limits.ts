/** Every bound on the wire. A peer that exceeds one is closed with a reason, never served. */
import { KiB } from '#shared/units.ts'

/** Spoken version. A server also accepts the versions in `ACCEPTED_PROTOCOLS` (clients that run on). */
export const PROTOCOL_VERSION = 2
export const ACCEPTED_PROTOCOLS: readonly number[] = [2]

/** URL path of the agent's websocket. */
export const AGENT_PATH = '/agent'

/** A control message is facts, names and lists: 64 KiB is ten times the largest seen in use. */
export const CONTROL_MESSAGE_BYTES_MAX: number = 64 * KiB

/** Smallest chunk any store may cut: a page of the client's kernel. */
export const CHUNK_BYTES_MIN: number = 4 * KiB

/** Largest chunk any store may cut. A chunk frame adds its header to this. */
export const CHUNK_BYTES_MAX: number = 128 * KiB

/**
 * Largest websocket message either side accepts: the largest object with its header, several smaller
 * ones, a boot list, a trace, or one control message.
 */
export const MESSAGE_BYTES_MAX: number = 192 * KiB

/**
 * Objects one session may have asked for and not been answered; more is a protocol error. At 1 Gbit/s
 * and 50 ms some 480 compressed chunks are on their way. Each costs the server 16 bytes.
 */
export const OBJECTS_IN_FLIGHT_MAX = 1024

/** Objects one request may name. */
export const REQUEST_OBJECTS_MAX = 256

/** Entries of a boot list or a trace: some 600 MB of a vDisk. What a boot reads beyond it comes on demand. */
export const BOOT_LIST_ENTRIES_MAX = 16_384

/** Ranges of the boot list one session may have asked for and not been sent. */
export const PUSH_RANGES_MAX = 1024

/** Most bytes the server pushes before it is asked (`open`): what a demand read may find before it. */
export const FIRST_PUSH_BYTES_MAX: number = 1024 * KiB

/** Blocks of data in one frame of writes: what a message holds, with room for headers. */
export const WRITE_BLOCKS_MAX = 40

/** Bytes of written data one session may have sent that are not durable yet: two rounds of the disk. */
export const WRITES_IN_FLIGHT_BYTES_MAX: number = 4 * 1024 * KiB

/** Blocks wanted back by one frame: a read of the kernel is rarely longer. */
export const READ_BACK_BLOCKS_MAX = 32

/** Reads back one session may have asked for and not been answered: a kernel's queue. */
export const READS_BACK_IN_FLIGHT_MAX = 128

/** Runs in one frame of a write map. */
export const WRITE_RUNS_MAX = 8192

/** Of a vDisk: as many as a GPT has. */
export const PARTITIONS_MAX = 128

/** Pieces of a logical volume: each enlargement of it may add one. */
export const VOLUME_SEGMENTS_MAX = 64

/** An agent that has not said hello after this is closed. */
export const HELLO_TIMEOUT_MS = 10_000

/** Each side pings when it heard nothing for this long… */
export const PING_INTERVAL_MS = 5_000

/** …and gives the connection up when it heard nothing at all for this long. */
export const SILENCE_TIMEOUT_MS = 20_000

/** Longest name of a vDisk or client; a host name label is 63 (RFC 1123 §2.1). */
export const NAME_LENGTH_MAX = 63

/** Network interfaces one client may report; servers with more exist, but none we name by them. */
export const MACS_MAX = 32

/** vDisks one client may be assigned: a menu a person can read. */
export const ASSIGNMENTS_MAX = 64

/** 256 bits in base64url, and what says what they are. */
export const JOIN_TOKEN_LENGTH_MAX = 64
