/**
 * Where a file has data, so that its holes need not be read: an image of 100 GB may hold 1 GB. Node has
 * no SEEK_DATA; perl has, and every Debian and Ubuntu has perl (perl-base is essential). Without it the
 * file counts as data from end to end, which is slower and nothing else.
 */
import { createInterface } from 'node:readline'
import { exitOf, startTool, toolFailure } from '#server/tool.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'

export interface Extent {
  readonly offsetBytes: number
  readonly sizeBytes: number
}

/** lseek(2): whence 3 is SEEK_DATA, 4 SEEK_HOLE; ENXIO (6) says that no data follows. */
const SCRIPT = `
  open(my $file, '<', $ARGV[0]) or die "open: $!\\n";
  my $at = 0;
  while (defined(my $data = sysseek($file, $at, 3))) {
    my $hole = sysseek($file, $data, 4) // die "seek: $!\\n";
    printf "%d %d\\n", $data, $hole - $data;
    $at = $hole + 0;
  }
  die "seek: $!\\n" unless $!+0 == 6;
`

/** Says which parts of a file have data, in order; the rest reads as zeros. */
export async function* dataExtents(
  path: string,
  sizeBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Extent> {
  const child = startTool('perl', ['-e', SCRIPT, path], { signal })
  const { stdout, stderr } = child
  invariant(stdout !== null && stderr !== null, 'the streams are pipes')
  const exit = exitOf('perl', child).catch((error: unknown) => error)
  let said = ''
  stderr.on('data', (part) => (said += String(part)))
  try {
    for await (const line of createInterface({ input: stdout })) {
      const [offsetBytes = 0, lengthBytes = 0] = line.split(' ').map(Number)
      const extent = { offsetBytes, sizeBytes: Math.min(lengthBytes, sizeBytes - offsetBytes) }
      if (extent.sizeBytes > 0) yield extent
    }
    const status = await exit
    signal.throwIfAborted()
    if (isMissing(status)) return yield { offsetBytes: 0, sizeBytes }
    if (status instanceof Error) throw status
    if (status !== 0) throw toolFailure('perl', status as number, said)
  } finally {
    child.kill('SIGKILL')
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof BootwireError && error.code === 'TOOL_MISSING'
}
