/** Takes files out of the host's page cache, so that the next read of them is one of the disk. */
import { runScript } from '#test/support/child-run.ts'

/** @throws when something of the files stays there */
export async function dropPageCache(...paths: readonly string[]): Promise<void> {
  const script = `
    dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none
    [ "$(fincore --noheadings --bytes --output RES "$1")" -eq 0 ] || { echo "$1 stays" >&2; exit 1; }`
  for (const path of paths) await runScript(script, [path])
}
