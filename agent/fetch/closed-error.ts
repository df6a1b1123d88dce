/** What those are told who wait, or come, when the vDisk is closed. */
export function closedError(): Error {
  return new DOMException('The vDisk was closed', 'AbortError')
}
