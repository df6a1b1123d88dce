/** What somebody may try at the port for administration from afar, with a real server behind it. */
import { request } from 'node:https'
import type { Role, TokenRole } from '#server/administrators/roles.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Attack } from './attack.ts'
import { type RemoteSite, startRemoteSite } from './remote-site.ts'

function adminAttack(
  name: string,
  tryAt: (site: RemoteSite, guard: 'up' | 'down') => Promise<boolean>,
): Attack {
  return {
    name,
    tryWith: async (guard) => {
      await using site = await startRemoteSite()
      return await tryAt(site, guard)
    },
  }
}

/** Status of a request with these headers, whoever the server is. */
export async function statusOf(
  port: number,
  path: string,
  authorization?: string,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const headers = authorization === undefined ? {} : { authorization }
  const options = { host: '127.0.0.1', port, path, headers, agent: false }
  request({ ...options, rejectUnauthorized: false }, (response) => {
    response.resume()
    resolve(response.statusCode ?? 0)
  })
    .on('error', reject)
    .end()
  return await promise
}

async function isDone(work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return true
  } catch (error) {
    if (error instanceof BootwireError) return false
    throw error
  }
}

/** Control: the token itself. */
const guessedToken = adminAttack(
  'tokens of administrators that were guessed',
  async (site, guard) => {
    const token = await site.tokenOf('administrator')
    for (let at = 0; at < 40; at += 1) {
      const guess = guard === 'up' ? `${token.slice(0, -2)}${at + 10}` : token
      if (guard === 'up' && guess === token) continue
      if ((await statusOf(site.port, '/clients', `Bearer ${guess}`)) === 200) return true
    }
    return false
  },
)

/** Control: before that. */
const endedToken = adminAttack(
  'the token of an administrator who is none any more',
  async (site, guard) => {
    const client = site.clientWith(await site.tokenOf('operator', 'former'))
    if (guard === 'up') await site.tokens.remove('former')
    return await isDone(client.ask('GET', '/clients'))
  },
)

/** Control: who may. */
function roleAttack(
  name: string,
  roles: Readonly<Record<'up' | 'down', TokenRole>>,
  [method, path, body]: readonly ['GET' | 'POST' | 'DELETE', string, unknown?],
): Attack {
  return adminAttack(name, async (site, guard) => {
    await site.core.addVDisk('lab')
    const client = site.clientWith(await site.tokenOf(roles[guard]))
    return await isDone(client.ask(method, path, body))
  })
}

const moreRights = roleAttack(
  'an operator who makes himself administrator',
  { up: 'operator', down: 'administrator' },
  ['POST', '/administrators', { name: 'me-too', role: 'administrator' satisfies Role }],
)
const changeAsViewer = roleAttack(
  'a viewer who admits machines',
  { up: 'viewer', down: 'operator' },
  ['POST', '/join', { seconds: 60 }],
)
const removeAsOperator = roleAttack(
  'an operator who removes a vDisk',
  { up: 'operator', down: 'administrator' },
  ['DELETE', '/vdisks/lab'],
)

/** A path of the server's, which its owner may import, and nobody else. Control: the owner's own socket. */
const fileOfServer = adminAttack('a file of the server, by importing it', async (site, guard) => {
  const client = guard === 'up' ? site.clientWith(await site.tokenOf('administrator')) : site.owner
  const body = { path: '/etc/shadow', name: 'x', kernelOptional: true }
  return await isDone(client.importVDisk(body, () => undefined))
})

/** Names that lead out of where names are looked up. Control: one that does not. */
const traversal = adminAttack('paths that lead out of the administration', async (site, guard) => {
  const authorization = `Bearer ${await site.tokenOf('administrator')}`
  await site.core.addVDisk('lab')
  const paths = [
    '/vdisks/..%2f..%2fetc%2fpasswd',
    '/vdisks/%2e%2e',
    '/vdisks/lab/../../../etc/passwd',
    '/clients/__proto__',
    '/vdisks/lab%00',
    '/vdisks/constructor/versions',
  ]
  for (const path of guard === 'up' ? paths : ['/vdisks/lab']) {
    if ((await statusOf(site.port, path, authorization)) === 200) return true
  }
  return false
})

/** Control: the server that it is for. */
const foreignServer = adminAttack('a server of his own, for the token', async (site, guard) => {
  await using other = await startRemoteSite()
  const pin = guard === 'up' ? other.key.pin : site.key.pin
  return await isDone(site.clientWith(await site.tokenOf('viewer'), pin).ask('GET', '/clients'))
})

/** Control: a setting that is no secret. */
const secretInAudit = adminAttack('secrets of clients, in the audit log', async (site, guard) => {
  const machine = { macs: ['52:54:00:00:00:01'] }
  const { hostname } = await site.core.registry.identify(machine, '10.0.0.9')
  const client = site.clientWith(await site.tokenOf('administrator'))
  const values = { VPN_KEY: { value: 'hush-hush', isSecret: guard === 'up' } }
  await client.ask('POST', `/clients/${hostname}/settings`, { values })
  const all = [await client.ask('GET', '/audit'), await client.ask('GET', `/clients/${hostname}`)]
  return JSON.stringify(all).includes('hush-hush')
})

export const ADMIN_ATTACKS: readonly Attack[] = [
  guessedToken,
  endedToken,
  moreRights,
  changeAsViewer,
  removeAsOperator,
  fileOfServer,
  traversal,
  foreignServer,
  secretInAudit,
]
