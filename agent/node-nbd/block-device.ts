/**
 * What an NBD server serves. A device has two faces: the *hot* one is called inside the worker that
 * owns the connection, answers at once from memory or a local file, and never waits for anything;
 * what it cannot answer goes to the *cold* face on the main thread, which may take as long as the
 * network does. A device that always has its data (a file, a RAM disk) needs no cold face.
 */

/** Collects the payload of one reply without copying it twice. */
export interface ReplySink {
  /** Appends bytes that lie in memory; they must stay unchanged until `HotDevice.idle` is called. */
  append(bytes: Uint8Array): void
  /**
   * The same for a part of a large block of memory, for devices that may not allocate a view per
   * read. Copy with `memory.copy(target, at, offset, offset + length)`: on shared memory it is
   * half as long as with `set` of a view.
   */
  appendPart(memory: Buffer, offset: number, length: number): void
  /** Appends zeros. */
  appendZeros(lengthBytes: number): void
  /** Appends a range of a local file, read before the call returns: it may change right after. */
  appendFile(fd: number, offsetBytes: number, lengthBytes: number): void
}

/** One run of bytes with one allocation state: the content of a `base:allocation` extent. */
export interface Extent {
  readonly lengthBytes: number
  /** True when the run reads as zeros. */
  readonly zero: boolean
  /** True when the run takes no space of its own. */
  readonly hole: boolean
}

/** Lives in a worker. All calls are synchronous; `false` means "ask the cold device". */
export interface HotDevice {
  /** Appends the whole range to the sink and returns true, or appends nothing and returns false. */
  read(offsetBytes: number, lengthBytes: number, sink: ReplySink): boolean
  /** `bytes` is only valid during the call. With `fua`, returns after the bytes are durable. */
  write(offsetBytes: number, bytes: Uint8Array, fua: boolean): boolean
  flush(): boolean
  trim(offsetBytes: number, lengthBytes: number, fua: boolean): boolean
  writeZeroes(offsetBytes: number, lengthBytes: number, mayTrim: boolean, fua: boolean): boolean
  /** Extents from the offset on, covering at most `lengthBytes`, at least one; neighbours differ. */
  extents(offsetBytes: number, lengthBytes: number): Extent[]
  /** Asks that the range be fetched before it is read (NBD_CMD_CACHE); returns at once. */
  prefetch?(offsetBytes: number, lengthBytes: number): void
  /**
   * Called whenever every reply built so far has left and the worker is about to wait for the next
   * request: memory handed to a sink is no longer referenced. A cache may reuse evicted memory only
   * after this.
   */
  idle?(): void
  close(): void
}

/** Lives on the main thread and serves what hot devices could not. A rejected promise becomes EIO. */
export interface ColdDevice {
  read(offsetBytes: number, target: Uint8Array): Promise<void>
  write(offsetBytes: number, bytes: Uint8Array, fua: boolean): Promise<void>
  flush(): Promise<void>
  trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void>
  writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    mayTrim: boolean,
    fua: boolean,
  ): Promise<void>
}

/** Thrown by a device to answer with a certain NBD error number instead of NBD_EIO. */
export class NbdError extends Error {
  readonly errno: number
  constructor(errno: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NbdError'
    this.errno = errno
  }
}

/**
 * How a worker gets its device: it imports `moduleUrl` and calls its export
 * `openHotDevice(data): HotDevice`. `data` must survive structured cloning; SharedArrayBuffers and
 * file descriptors in it are shared with the main thread.
 */
export interface HotDeviceSource {
  readonly moduleUrl: string
  readonly data: unknown
}

/** One export of the NBD server. */
export interface Export {
  readonly name: string
  readonly description: string
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** Advertised in NBD_INFO_BLOCK_SIZE. */
  readonly minimumBlockBytes: number
  readonly preferredBlockBytes: number
  readonly maximumBlockBytes: number
  /** Whether writing zeroes always costs less than writing data (NBD_CMD_FLAG_FAST_ZERO). Default false. */
  readonly fastZeroes?: boolean
  readonly hot: HotDeviceSource
  /** Absent when the hot device never answers "not here". */
  readonly cold?: ColdDevice
}
