/** Which machines read the same at boot: those of one model. */
import { isPlaceholder, type MachineFacts } from '#shared/identity/machine-facts.ts'

/** Manufacturer and product as the firmware names them; cut, since strangers send them. */
const MODEL_LENGTH_MAX = 100

export const UNKNOWN_MODEL = 'unknown'

export function hardwareModel({ manufacturer, product }: MachineFacts): string {
  const words = [manufacturer, product]
    .map((word) => (word ?? '').replaceAll(/\p{C}/gu, ' ').trim().replaceAll(/\s+/g, ' '))
    .filter((word) => !isPlaceholder(word))
  return words.length === 0 ? UNKNOWN_MODEL : words.join(' ').slice(0, MODEL_LENGTH_MAX)
}
