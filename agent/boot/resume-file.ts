/**
 * What an agent that was restarted under a running root must know: written before the device is
 * attached, so that its successor serves the same version without asking anybody.
 */
import * as v from 'valibot'
import { openedSchema } from '#shared/wire/messages.ts'
import type { RunFolder } from './run-folder.ts'

const resumeSchema = v.object({
  bootId: v.string(),
  hostname: v.string(),
  machineId: v.string(),
  opened: openedSchema,
  /** Whether partitions of ours were found: who had none waits for none. */
  hasLocalDisk: v.boolean(),
  /** Whether the machine has a key. */
  hasKey: v.boolean(),
  places: v.object({
    ramTierBytes: v.number(),
    ramBytes: v.number(),
    diskBytes: v.number(),
    isKept: v.boolean(),
    server: v.optional(v.object({ isKept: v.boolean(), beginShare: v.number() })),
  }),
})
export type Resume = v.InferOutput<typeof resumeSchema>

const FILE = 'resume.json'

export function writeResume(runFolder: RunFolder, resume: Resume): void {
  runFolder.write(FILE, JSON.stringify(resume))
}

/** Returns undefined at the start of a boot. @throws when the file is not one of ours */
export function readResume(runFolder: RunFolder): Resume | undefined {
  const text = runFolder.read(FILE)
  return text === undefined ? undefined : v.parse(resumeSchema, JSON.parse(text))
}

export function removeResume(runFolder: RunFolder): void {
  runFolder.remove(FILE)
}
