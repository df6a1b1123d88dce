/** Waiting for a disk that may hang: what was asked of it goes on, only the wait ends. */
export class DiskHangs extends Error {
  constructor(afterMs: number) {
    super(`the disk does not answer for ${Math.round(afterMs / 1000)} s`)
  }
}

/**
 * @throws {DiskHangs} when `mayEnd` says so after the time, or after any further such time
 * @throws what the promise is rejected with
 */
export async function withDeadline<T>(
  promise: Promise<T>,
  ms: number,
  mayEnd: () => boolean = () => true,
): Promise<T> {
  const { promise: hangs, reject } = Promise.withResolvers<never>()
  const sinceMs = performance.now()
  const timer = setInterval(() => {
    if (mayEnd()) reject(new DiskHangs(performance.now() - sinceMs))
  }, ms)
  try {
    return await Promise.race([promise, hangs])
  } finally {
    clearInterval(timer)
  }
}
