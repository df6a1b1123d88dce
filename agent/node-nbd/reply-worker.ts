/**
 * Entry of the worker that sends the answers of the cold device. It is the one to wait when the
 * client does not read: neither the main thread nor the replies of hits stand behind it, but for the
 * lock on the socket while a write is going on.
 */
import { type ColdAnswer, ColdChannel } from './cold-channel.ts'
import { ConnectionGone, DescriptorOutput } from './descriptor-io.ts'
import { ERRNO } from './nbd-errno.ts'
import { COMMAND } from './protocol.ts'
import { ReplyBuffer } from './reply-buffer.ts'
import { ReplyEncoder } from './reply-encoder.ts'
import { SharedMutex } from './shared-mutex.ts'
import type { ReplyTask } from './transmission-task.ts'
import { serveTasks } from './worker-task.ts'

serveTasks((given) => {
  const task = given as ReplyTask
  try {
    sendAnswers(task)
  } catch (error) {
    // Once we hang up, the descriptor need not be a blocking one any more (endDescriptor): EAGAIN.
    if (!(error instanceof ConnectionGone || new ColdChannel(task.channel).closed)) throw error
  }
})

function sendAnswers(task: ReplyTask): void {
  const channel = new ColdChannel(task.channel)
  const memory = Buffer.from(task.memory)
  const output = new DescriptorOutput(task.fd, new SharedMutex(channel.words, channel.lockWord))
  const replies = new ReplyBuffer(output)
  const encoder = new ReplyEncoder(replies, task.structuredReplies)
  for (;;) {
    const seen = channel.signal
    if (channel.closed) return
    const count = channel.answersWaiting
    for (let index = 0; index < count; index += 1) encode(encoder, memory, channel.answer(index))
    replies.flush()
    if (count > 0) channel.setSent(count)
    else channel.waitForSignal(seen)
  }
}

function encode(encoder: ReplyEncoder, memory: Buffer, answer: ColdAnswer): void {
  const { type, errno, cookieHigh, cookieLow, offset } = answer
  if (type !== COMMAND.read) return encoder.answer(cookieHigh, cookieLow, errno)
  if (errno !== ERRNO.none) return encoder.failRead(cookieHigh, cookieLow, errno)
  const sink = encoder.beginRead(cookieHigh, cookieLow, offset, answer.length, true)
  sink.appendPart(memory, answer.memoryAt, answer.length)
  encoder.endRead()
}
