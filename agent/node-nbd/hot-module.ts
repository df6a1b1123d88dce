/** Loads the module that opens hot devices, in a worker. */
import type { HotDevice } from './block-device.ts'

type OpenHotDevice = (data: unknown) => HotDevice

/** `moduleUrl` is a file: URL or an absolute path; the module may be CommonJS. */
export async function loadHotModule(moduleUrl: string): Promise<OpenHotDevice> {
  const module: unknown = await import(moduleUrl)
  const open =
    exportOf(module, 'openHotDevice') ?? exportOf(exportOf(module, 'default'), 'openHotDevice')
  if (typeof open !== 'function') {
    throw new TypeError(`Cannot open hot device: ${moduleUrl} does not export openHotDevice`)
  }
  return open as OpenHotDevice
}

function exportOf(module: unknown, name: string): unknown {
  if (typeof module !== 'object' || module === null) return undefined
  return (module as Record<string, unknown>)[name]
}
