/** What a machine that is captured asks of the server, as shared/capture/capture-protocol.ts has it. */
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import type { Log } from '#server/log.ts'
import { parseBody, readBody, readBytes } from '#server/request-body.ts'
import {
  CAPTURE_PATH,
  captureFinishSchema,
  captureRequestSchema,
  HASH_HEADER,
  PACKED_BYTES_MAX,
  segmentBytes,
  segmentCount,
} from '#shared/capture/capture-protocol.ts'
import { BootwireError, describeError, type ErrorCode } from '#shared/errors.ts'
import type { Capture, Captures } from './captures.ts'

const unpack = promisify(zstdDecompress)

export interface CaptureHttpDeps {
  readonly captures: Captures
  /** @throws {BootwireError} STORE_FULL */
  readonly assertRoom: (neededBytes: number, name: string) => Promise<void>
  readonly log: Log
}

/** What the machine is to do by them: give up, wait, send again. */
const STATUS_BY_CODE: Partial<Record<ErrorCode, number>> = {
  CAPTURE_REFUSED: 403,
  NOT_FOUND: 404,
  IN_USE: 409,
  INVALID_ARGUMENT: 400,
  STORE_FULL: 507,
}

/** Returns false for what is no request of a capture, and has not been answered. */
export function captureHandler(
  deps: CaptureHttpDeps,
): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    const { url = '' } = request
    if (url !== CAPTURE_PATH && !url.startsWith(`${CAPTURE_PATH}/`)) return false
    respond(deps, request)
      .then((body) => send(response, 200, body))
      .catch(async (error: unknown) => {
        await drain(request)
        const status = error instanceof BootwireError ? (STATUS_BY_CODE[error.code] ?? 500) : 500
        if (status === 500) deps.log.error({ err: error, url }, 'capture request failed')
        send(response, status, { error: describeError(error) })
      })
    return true
  }
}

async function respond(deps: CaptureHttpDeps, request: IncomingMessage): Promise<unknown> {
  const { captures } = deps
  const { method = '', url = '' } = request
  const [id, what, index, ...rest] = url.slice(CAPTURE_PATH.length + 1).split('/')
  const name = [method, id === '' ? '' : 'ID', what, index === undefined ? undefined : 'N', ...rest]
    .filter((part) => part !== undefined && part !== '')
    .join(' ')
  if (name === 'POST') {
    return await captures.begin(parseBody(captureRequestSchema, await readBody(request)))
  }
  const [, token = ''] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '') ?? []
  const capture = captures.authorized(id ?? '', token)
  if (name === 'GET ID') return capture.status
  if (name === 'GET ID segments') {
    assertApproved(capture)
    return capture.disk.hashes
  }
  if (name === 'PUT ID segments N') {
    await inTurn(capture, () => receive(deps, capture, index ?? '', request))
    return capture.status
  }
  if (name === 'POST ID finish') {
    const { hash } = parseBody(captureFinishSchema, await readBody(request))
    await inTurn(capture, () => finish(captures, capture, hash))
    return capture.status
  }
  throw new BootwireError('NOT_FOUND', `Cannot answer ${method} ${url}: there is no such request`)
}

/** One at a time: a machine that believes a request lost may send it again beside the first. */
async function inTurn(capture: Capture, work: () => Promise<void>): Promise<void> {
  const mine = capture.turn.then(work)
  capture.turn = mine.catch(() => undefined)
  await mine
}

async function receive(
  { assertRoom }: CaptureHttpDeps,
  capture: Capture,
  segment: string,
  request: IncomingMessage,
): Promise<void> {
  assertApproved(capture)
  const { disk } = capture
  const index = /^\d{1,9}$/.test(segment) ? Number(segment) : -1
  if (index < 0 || index >= segmentCount(disk.sizeBytes)) {
    throw new BootwireError('INVALID_ARGUMENT', `Cannot take segment "${segment}": there is none`)
  }
  const length = segmentBytes(disk.sizeBytes, index)
  const hash = String(request.headers[HASH_HEADER] ?? '')
  const bytes = await unpacked(await readBytes(request, PACKED_BYTES_MAX), length)
  if (bytes.length !== length || createHash('sha256').update(bytes).digest('hex') !== hash) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot take segment ${index}: its bytes are not what its hash says`,
    )
  }
  await assertRoom(length, `the disk of ${capture.record.request.disk.name}`)
  assertApproved(capture)
  await disk.write(index, bytes, hash)
}

async function finish(captures: Captures, capture: Capture, hash: string): Promise<void> {
  // Said twice, when the first answer was lost.
  if (capture.status.state === 'importing' || capture.status.state === 'done') return
  assertApproved(capture)
  const { disk } = capture
  const found = createHash('sha256').update(disk.hashes).digest('hex')
  if (!disk.isComplete || found !== hash) {
    throw new BootwireError('IN_USE', 'Cannot finish: segments are missing, or others than those')
  }
  await captures.finish(capture)
}

function assertApproved({ status }: Capture): void {
  if (status.state === 'approved') return
  throw new BootwireError('IN_USE', `Cannot take the disk: it is ${status.state}`)
}

/** An answer before the end of what is sent would be lost. */
async function drain(request: IncomingMessage): Promise<void> {
  let lengthBytes = 0
  try {
    for await (const part of request) {
      lengthBytes += (part as Buffer).length
      if (lengthBytes > PACKED_BYTES_MAX) break
    }
  } catch {
    // It broke off, or was read already.
  }
}

async function unpacked(packed: Buffer, maxOutputLength: number): Promise<Buffer> {
  try {
    return await unpack(packed, { maxOutputLength })
  } catch (cause) {
    throw new BootwireError('INVALID_ARGUMENT', 'Cannot take the segment: it cannot be unpacked', {
      cause,
    })
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const isBytes = body instanceof Uint8Array
  const bytes = isBytes ? body : Buffer.from(JSON.stringify(body))
  response.writeHead(status, {
    'content-type': isBytes ? 'application/octet-stream' : 'application/json',
    'content-length': bytes.length,
  })
  response.end(bytes)
}
