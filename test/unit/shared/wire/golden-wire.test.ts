import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  CHUNK_HEADER_BYTES,
  decodeChunkHeader,
  decodeChunkRequest,
  encodeChunkHeader,
  encodeChunkRequest,
} from '#shared/wire/frame.ts'
import { agentMessageSchema, serverMessageSchema } from '#shared/wire/messages.ts'
import { AGENT_MESSAGES, CHUNK_REQUESTS, CHUNKS, SERVER_MESSAGES } from './wire-vectors.ts'

const FOLDER = new URL('../../../golden/wire/protocol-1/', import.meta.url)

const golden = (name: string) => readFileSync(new URL(`${name}.bin`, FOLDER))

const kindsOf = (messages: object) =>
  new Set(Object.values(messages).map((message: { readonly kind: string }) => message.kind))

describe('golden frames of protocol 1', () => {
  for (const [name, message] of Object.entries(AGENT_MESSAGES)) {
    it(`encodeMessage and decodeAgentMessage agree with ${name}`, () => {
      assert.deepEqual(Buffer.from(encodeMessage(message)), golden(name))
      assert.deepEqual(decodeAgentMessage(golden(name)), message)
    })
  }

  for (const [name, message] of Object.entries(SERVER_MESSAGES)) {
    it(`encodeMessage and decodeServerMessage agree with ${name}`, () => {
      assert.deepEqual(Buffer.from(encodeMessage(message)), golden(name))
      assert.deepEqual(decodeServerMessage(golden(name)), message)
    })
  }

  for (const [name, request] of Object.entries(CHUNK_REQUESTS)) {
    it(`encodeChunkRequest and decodeChunkRequest agree with ${name}`, () => {
      assert.deepEqual(Buffer.from(encodeChunkRequest(request)), golden(name))
      assert.deepEqual(decodeChunkRequest(golden(name)), request)
    })
  }

  for (const [name, { header, payload }] of Object.entries(CHUNKS)) {
    it(`encodeChunkHeader and decodeChunkHeader agree with ${name}`, () => {
      assert.deepEqual(Buffer.concat([encodeChunkHeader(header), payload]), golden(name))
      assert.deepEqual(decodeChunkHeader(golden(name)), header)
      assert.deepEqual(golden(name).subarray(CHUNK_HEADER_BYTES), Buffer.from(payload))
    })
  }

  it('has a vector for every kind of message, and no file without one', () => {
    const kinds = (schema: typeof agentMessageSchema | typeof serverMessageSchema) =>
      new Set(schema.options.map((option) => option.entries.kind.literal))
    assert.deepEqual(kindsOf(AGENT_MESSAGES), kinds(agentMessageSchema))
    assert.deepEqual(kindsOf(SERVER_MESSAGES), kinds(serverMessageSchema))
    const vectors = [AGENT_MESSAGES, SERVER_MESSAGES, CHUNK_REQUESTS, CHUNKS]
    const files = vectors.flatMap((vector) => Object.keys(vector)).map((name) => `${name}.bin`)
    assert.deepEqual(readdirSync(FOLDER).sort(), files.sort())
  })

  it('decodeAgentMessage leaves out fields it does not know, so that they may be added', () => {
    const open = golden('open-least')
    const longer = Buffer.concat([open, Buffer.from('a36e657707', 'hex')]) // "new": 7
    assert.equal(longer.toString('hex', 1, 4), 'de0002') // a map of two fields
    longer[3] = 3
    assert.deepEqual(decodeAgentMessage(longer), { kind: 'open', vdisk: 'd' })
  })
})
