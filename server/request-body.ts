/** Reads the body of a request, bounded, and its JSON, checked. */
import type { IncomingMessage } from 'node:http'
import * as v from 'valibot'
import { BootwireError } from '#shared/errors.ts'

/** The largest request names a path and a menu of vDisks: a few kilobytes. */
export const BODY_BYTES_MAX: number = 64 * 1024

/** Returns undefined for an empty body. @throws {BootwireError} INVALID_ARGUMENT */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const text = (await readBytes(request, BODY_BYTES_MAX)).toString('utf8')
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw invalid('it is not JSON', cause)
  }
}

/** @throws {BootwireError} INVALID_ARGUMENT */
export async function readBytes(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let lengthBytes = 0
  for await (const part of request) {
    parts.push(part as Buffer)
    lengthBytes += (part as Buffer).length
    if (lengthBytes > bytesMax) throw invalid(`it is longer than ${bytesMax} bytes`)
  }
  return Buffer.concat(parts)
}

/** Returns the body as the schema describes it. @throws {BootwireError} INVALID_ARGUMENT */
export function parseBody<Schema extends v.GenericSchema>(
  schema: Schema,
  body: unknown,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, body ?? {})
  if (result.success) return result.output
  const issue = result.issues[0]
  throw invalid(`${v.getDotPath(issue) ?? 'it'}: ${issue.message}`)
}

function invalid(why: string, cause?: unknown): BootwireError {
  return new BootwireError('INVALID_ARGUMENT', `Cannot use the request: ${why}`, { cause })
}
