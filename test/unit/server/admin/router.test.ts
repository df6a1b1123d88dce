import assert from 'node:assert/strict'
import { it } from 'node:test'
import { findRoute, type Route } from '#server/admin/router.ts'

const handle = async () => undefined
const ROUTES: Route[] = [
  { method: 'GET', path: '/clients', handle },
  { method: 'GET', path: '/clients/:client', handle },
  { method: 'POST', path: '/clients/:client/approve', handle },
]

it('findRoute() matches method and path, and decodes parameters', () => {
  assert.equal(findRoute(ROUTES, 'GET', '/clients').route, ROUTES[0])
  const match = findRoute(ROUTES, 'POST', '/clients/52%3A54%2F..%20/approve')
  assert.equal(match.route, ROUTES[2])
  assert.deepEqual(match.params, { client: '52:54/.. ' })
})

it('findRoute() refuses what is not in the table', () => {
  for (const [method, path] of [
    ['POST', '/clients'],
    ['GET', '/clients/x/'],
    ['GET', '/'],
    ['GET', '/clients/a/b'],
    ['DELETE', '/clients/a'],
  ] as const) {
    assert.throws(() => findRoute(ROUTES, method, path), { code: 'NOT_FOUND' }, path)
  }
  assert.throws(() => findRoute(ROUTES, 'GET', '/clients/%E0%A4%A'), { code: 'INVALID_ARGUMENT' })
})
