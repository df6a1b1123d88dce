/** What the main thread and the transmission worker say to each other. */
import type { HotDeviceSource } from './block-device.ts'
import type { ExportFacts, Negotiated } from './export-facts.ts'

export type TransmissionTask =
  /** Loads the module ahead of the first connection. */
  | { readonly kind: 'load'; readonly moduleUrl: string }
  | {
      readonly kind: 'serve'
      /** A blocking descriptor of the socket. */
      readonly fd: number
      /** Bytes of the transmission phase that were read with the end of the handshake. */
      readonly early: Uint8Array
      readonly facts: ExportFacts
      readonly negotiated: Negotiated
      readonly hot: HotDeviceSource
      readonly hasCold: boolean
      /** A ColdChannel, for the lock on the socket even when there is no cold device. */
      readonly channel: SharedArrayBuffer
      /** Payload of one write. */
      readonly payload: SharedArrayBuffer
    }

/** How a connection came to its end: the client said so, or just hung up. */
export type TransmissionEnd = 'disconnect' | 'eof'

export interface ReplyTask {
  readonly fd: number
  readonly structuredReplies: boolean
  readonly channel: SharedArrayBuffer
  /** Where the data of cold reads lies. */
  readonly memory: SharedArrayBuffer
}
