/** Finds the handler of an administration request: a table of methods and paths, nothing more. */
import type { Caller } from '#server/administrators/roles.ts'
import { BootwireError } from '#shared/errors.ts'

export interface RouteRequest {
  readonly caller: Caller
  /** Values of the `:name` parts of the path. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** Parsed, not checked; undefined of routes that take an upload. */
  readonly body: unknown
  readonly upload: AsyncIterable<Uint8Array>
  /** Aborted when whoever asked is gone. */
  readonly signal: AbortSignal
  /** Sends a line of progress; only routes that answer with lines may. */
  readonly progress: (progress: unknown) => void
  /**
   * Sends bytes, and returns when they may be used again; only routes that answer with frames may.
   * Whoever asked sees an error of the route as a frame.
   */
  readonly write: (bytes: Uint8Array) => Promise<void>
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** Parts that begin with ":" match any text. */
  readonly path: string
  /** JSON when it does not say; `lines`: progress, then the result; `frames`: of content-frames.ts. */
  readonly answers?: 'lines' | 'frames'
  /** The body is bytes of any number, for the route to read. */
  readonly takesUpload?: boolean
  readonly handle: (request: RouteRequest) => Promise<unknown>
}

export interface RouteMatch {
  readonly route: Route
  readonly params: Readonly<Record<string, string>>
}

/** @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT */
export function findRoute(routes: readonly Route[], method: string, path: string): RouteMatch {
  const parts = path.split('/').map(decodePart)
  for (const route of routes) {
    const params = route.method === method ? match(route.path.split('/'), parts) : undefined
    if (params !== undefined) return { route, params }
  }
  throw new BootwireError('NOT_FOUND', `Cannot answer ${method} ${path}: there is no such command`)
}

function match(
  pattern: readonly string[],
  parts: readonly string[],
): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, expected] of pattern.entries()) {
    const part = parts[index] ?? ''
    if (expected.startsWith(':')) params[expected.slice(1)] = part
    else if (expected !== part) return undefined
  }
  return params
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (cause) {
    throw new BootwireError('INVALID_ARGUMENT', `Cannot read "${part}": expected URL encoding`, {
      cause,
    })
  }
}
