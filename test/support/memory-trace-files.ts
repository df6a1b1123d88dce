/** Traces in memory. */
import type { BootTrace } from '#server/traces/boot-trace.ts'
import type { TraceFiles } from '#server/traces/trace-files.ts'

export class MemoryTraceFiles implements TraceFiles {
  readonly versions = new Map<string, BootTrace[]>()

  folderOf(): undefined {
    return undefined
  }

  async load(versionId: string): Promise<BootTrace[]> {
    return [...(this.versions.get(versionId) ?? [])]
  }

  async save(versionId: string, trace: BootTrace): Promise<void> {
    await this.remove(versionId, trace)
    this.versions.set(versionId, [...(this.versions.get(versionId) ?? []), trace])
  }

  async remove(versionId: string, { origin, bootId }: BootTrace): Promise<void> {
    const kept = (this.versions.get(versionId) ?? []).filter(
      (trace) => trace.origin !== origin || trace.bootId !== bootId,
    )
    this.versions.set(versionId, kept)
  }

  async removeVersion(versionId: string): Promise<void> {
    this.versions.delete(versionId)
  }

  async listVersions(): Promise<string[]> {
    return [...this.versions.keys()]
  }
}
