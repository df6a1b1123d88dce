/** Messages of an agent with what a test does not care about filled in. */
import { PROTOCOL_VERSION } from '#shared/wire/limits.ts'
import type { Hello } from '#shared/wire/messages.ts'

export const BOOT_ID = 'b'.repeat(32)

export function hello(fields: Partial<Hello> & { readonly mac?: string } = {}): Hello {
  const { mac = '52:54:00:00:00:01', ...rest } = fields
  return {
    kind: 'hello',
    protocol: PROTOCOL_VERSION,
    agentVersion: '0.1.0',
    bootId: BOOT_ID,
    facts: { macs: [mac] },
    kernelRelease: '6.1.0',
    uptimeSeconds: 4,
    ...rest,
  }
}
