/** To be imported before a program (`node --import`): its agents take chunks as they come. */
import { registerHooks } from 'node:module'

const REAL = '/agent/fetch/object-intake.ts'
const CHEAP = new URL('./storm-cheap-intake.ts', import.meta.url).href

registerHooks({
  resolve: (specifier, context, nextResolve) => {
    const resolved = nextResolve(specifier, context)
    return resolved.url.endsWith(REAL) ? { ...resolved, url: CHEAP } : resolved
  },
})
