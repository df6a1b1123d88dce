/** An NBD server on worker threads. See README.md. */
export {
  type ColdDevice,
  type Export,
  type Extent,
  type HotDevice,
  type HotDeviceSource,
  NbdError,
  type ReplySink,
} from './block-device.ts'
export type { ConnectionEnd, NbdConnection } from './connection.ts'
export { kernelFlags } from './export-facts.ts'
export { type ListenAddress, NbdServer, type NbdServerOptions } from './nbd-server.ts'
export { type ServeDescriptorOptions, serveDescriptor } from './serve-descriptor.ts'
export type { WorkerFiles } from './worker-files.ts'
