/** What makes files survive a loss of power: written, synced, and their folder synced. */
import { open } from 'node:fs/promises'

/** Writes a new file and returns when it is on the disk. */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, 'wx')
  await file.writeFile(bytes)
  await file.sync()
}

/** Makes the content of a file that somebody else wrote durable. */
export async function syncFile(path: string): Promise<void> {
  await using file = await open(path)
  await file.sync()
}

/** Makes names that were created in, renamed to or removed from a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path)
  await folder.sync()
}
