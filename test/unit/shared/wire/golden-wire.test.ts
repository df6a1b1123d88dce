import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  decodeBootList,
  decodePush,
  decodeRequest,
  decodeTrace,
  encodeBootList,
  encodePush,
  encodeRequest,
  encodeTrace,
  readObjects,
} from '#shared/wire/frame.ts'
import { agentMessageSchema, serverMessageSchema } from '#shared/wire/messages.ts'
import { objectsFrame } from './objects-frame.ts'
import {
  AGENT_MESSAGES,
  BOOT_LISTS,
  OBJECTS,
  type ObjectVector,
  PUSHES,
  REQUESTS,
  SERVER_MESSAGES,
  TRACES,
} from './wire-vectors.ts'

const FOLDER = new URL('../../../golden/wire/protocol-2/', import.meta.url)

const golden = (name: string) => readFileSync(new URL(`${name}.bin`, FOLDER))

const kindsOf = (messages: object) =>
  new Set(Object.values(messages).map((message: { readonly kind: string }) => message.kind))

/** Both directions of a codec agree with the files. */
function agrees<Value>(
  vectors: Readonly<Record<string, Value>>,
  encode: (value: Value) => Uint8Array,
  decode: (frame: Uint8Array) => unknown,
): void {
  for (const [name, value] of Object.entries(vectors)) {
    it(`${encode.name} and ${decode.name} agree with ${name}`, () => {
      assert.equal(Buffer.from(encode(value)).toString('hex'), golden(name).toString('hex'))
      assert.deepEqual(decode(golden(name)), value)
    })
  }
}

function decodeObjects(frame: Uint8Array): ObjectVector[] {
  const objects: ObjectVector[] = []
  readObjects(frame, (header, payload) => {
    objects.push({ header, payload: Buffer.from(payload) })
  })
  return objects.map(({ header, payload }) => {
    return { header, payload: payload.length === 0 ? new Uint8Array(0) : payload }
  })
}

describe('golden frames of protocol 2', () => {
  agrees(AGENT_MESSAGES, encodeMessage, decodeAgentMessage)
  agrees(SERVER_MESSAGES, encodeMessage, decodeServerMessage)
  agrees(REQUESTS, encodeRequest, decodeRequest)
  agrees(OBJECTS, objectsFrame, decodeObjects)
  agrees(BOOT_LISTS, encodeBootList, decodeBootList)
  agrees(PUSHES, encodePush, decodePush)
  agrees(TRACES, encodeTrace, decodeTrace)

  it('has a vector for every kind of message, and no file without one', () => {
    const kinds = (schema: typeof agentMessageSchema | typeof serverMessageSchema) =>
      new Set(schema.options.map((option) => option.entries.kind.literal))
    assert.deepEqual(kindsOf(AGENT_MESSAGES), kinds(agentMessageSchema))
    assert.deepEqual(kindsOf(SERVER_MESSAGES), kinds(serverMessageSchema))
    const frames = { ...REQUESTS, ...OBJECTS, ...BOOT_LISTS, ...PUSHES, ...TRACES }
    const vectors = [AGENT_MESSAGES, SERVER_MESSAGES, frames]
    const files = vectors.flatMap((vector) => Object.keys(vector)).map((name) => `${name}.bin`)
    assert.deepEqual(readdirSync(FOLDER).sort(), files.sort())
  })

  it('decodeAgentMessage leaves out fields it does not know, so that they may be added', () => {
    const open = golden('open-least')
    const longer = Buffer.concat([open, Buffer.from('a36e657707', 'hex')]) // "new": 7
    assert.equal(longer.toString('hex', 1, 4), 'de0003') // a map of three fields
    longer[3] = 4
    assert.deepEqual(decodeAgentMessage(longer), { kind: 'open', vdisk: 'd', firstPushBytes: 0 })
  })
})
