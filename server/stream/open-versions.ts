/**
 * The versions sessions read right now. Each is opened once, however many clients boot it, and
 * closed when the last of them is gone.
 */

import type { ChunkStore, VersionReader } from '#server/store/chunk-store.ts'
import { invariant } from '#shared/invariant.ts'

/** One session's share of an open version. */
export interface VersionLease {
  readonly reader: VersionReader
  /** Gives the share back; the reader must not be used any more. Only the first call counts. */
  release(): void
}

interface OpenVersion {
  readonly reader: Promise<VersionReader>
  leases: number
}

export class OpenVersions {
  readonly #store: ChunkStore
  readonly #onCloseError: (error: unknown) => void
  readonly #open = new Map<string, OpenVersion>()

  constructor(store: ChunkStore, onCloseError: (error: unknown) => void) {
    this.#store = store
    this.#onCloseError = onCloseError
  }

  /** True from the moment somebody asked for the version. */
  isInUse(versionId: string): boolean {
    return this.#open.has(versionId)
  }

  /** Number of sessions that read the version. */
  leaseCount(versionId: string): number {
    return this.#open.get(versionId)?.leases ?? 0
  }

  /** @throws {BootwireError} NOT_FOUND, STATE_UNREADABLE */
  async acquire(versionId: string): Promise<VersionLease> {
    const version = this.#open.get(versionId) ?? this.#start(versionId)
    version.leases += 1
    try {
      return this.#lease(versionId, version, await version.reader)
    } catch (error) {
      this.#giveBack(versionId, version)
      throw error
    }
  }

  #start(versionId: string): OpenVersion {
    const version = { reader: this.#store.openVersion(versionId), leases: 0 }
    this.#open.set(versionId, version)
    return version
  }

  #lease(versionId: string, version: OpenVersion, reader: VersionReader): VersionLease {
    let held = true
    return {
      reader,
      release: () => {
        if (!held) return
        held = false
        this.#giveBack(versionId, version)
      },
    }
  }

  #giveBack(versionId: string, version: OpenVersion): void {
    invariant(version.leases > 0, `version ${versionId} has no leases`)
    version.leases -= 1
    if (version.leases > 0) return
    this.#open.delete(versionId)
    // A version that could not be opened needs no closing; its error went to those who asked.
    version.reader
      .then(
        (reader) => reader.close(),
        () => undefined,
      )
      .catch(this.#onCloseError)
  }
}
