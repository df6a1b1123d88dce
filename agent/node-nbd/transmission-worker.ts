/**
 * Entry of the worker that owns a connection: a loop of blocking reads and writes on the socket's
 * descriptor. All replies to what one read brought leave with one write, where that fits.
 */
import type { HotDevice } from './block-device.ts'
import { ColdChannel } from './cold-channel.ts'
import { ColdSubmitter } from './cold-submitter.ts'
import { ConnectionGone, DescriptorOutput, readDescriptor } from './descriptor-io.ts'
import { Gathering } from './gathering.ts'
import { loadHotModule } from './hot-module.ts'
import { ReplyBuffer } from './reply-buffer.ts'
import { ReplyEncoder } from './reply-encoder.ts'
import { RequestReader } from './request-reader.ts'
import { SharedMutex } from './shared-mutex.ts'
import { Transmission } from './transmission.ts'
import type { TransmissionEnd, TransmissionTask } from './transmission-task.ts'
import { serveTasks } from './worker-task.ts'

type ServeTask = Extract<TransmissionTask, { kind: 'serve' }>

serveTasks(async (given) => {
  const task = given as TransmissionTask
  if (task.kind === 'serve') return await serve(task)
  await loadHotModule(task.moduleUrl)
  return undefined
})

async function serve(task: ServeTask): Promise<TransmissionEnd> {
  const openHotDevice = await loadHotModule(task.hot.moduleUrl)
  const hot = openHotDevice(task.hot.data)
  try {
    return serveBlocking(task, hot)
  } catch (error) {
    // Once we hang up, the descriptor need not be a blocking one any more (endDescriptor): EAGAIN.
    if (error instanceof ConnectionGone || new ColdChannel(task.channel).closed) return 'eof'
    throw error
  } finally {
    hot.close()
  }
}

function serveBlocking(task: ServeTask, hot: HotDevice): TransmissionEnd {
  const { fd, facts, negotiated } = task
  const channel = new ColdChannel(task.channel)
  const output = new DescriptorOutput(fd, new SharedMutex(channel.words, channel.lockWord))
  const replies = new ReplyBuffer(output)
  const encoder = new ReplyEncoder(replies, negotiated.structuredReplies)
  const reader = new RequestReader(Buffer.from(task.payload))
  const letGo = (): void => {
    replies.flush()
    hot.idle?.()
  }
  const submitter = new ColdSubmitter(channel, letGo)
  const cold = task.hasCold ? submitter : undefined
  const transmission = new Transmission({ facts, negotiated, hot, reader, encoder, cold })
  reader.feed(task.early)
  const gathering = new Gathering()
  for (;;) {
    const goesOn = transmission.serveRequests()
    gathering.served(transmission.takeServedCount())
    submitter.announce()
    letGo()
    if (!goesOn) return 'disconnect'
    gathering.beforeRead()
    const beganMs = performance.now()
    const count = readDescriptor(fd, reader.target, reader.targetAt, reader.targetRoom)
    gathering.afterRead(performance.now() - beganMs)
    if (count === 0) return 'eof'
    reader.advance(count)
  }
}
