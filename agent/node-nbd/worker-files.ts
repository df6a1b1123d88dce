/** Where the code of the two workers lies: beside this file, unless it was bundled. */

/** Paths or file: URLs. Both must be given where the package was bundled into other files. */
export interface WorkerFiles {
  readonly transmission: string | URL
  readonly reply: string | URL
}

/** Not called when the files are given: in a CommonJS bundle import.meta.url is undefined. */
export function workerFilesBeside(): WorkerFiles {
  return {
    transmission: new URL('./transmission-worker.ts', import.meta.url),
    reply: new URL('./reply-worker.ts', import.meta.url),
  }
}
