import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type BootParameters,
  kernelParameters,
  parseBootParameters,
  renderBootParameters,
} from '#shared/boot/kernel-cmdline.ts'

const PIN = 'abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE'
const LEAST: BootParameters = { servers: [{ host: '10.0.2.2', port: 8443 }], pin: PIN }

const cmdline = (servers: string) => `bootwire.servers=${servers} bootwire.pin=${PIN}`

const refused = (message: RegExp) => ({ code: 'BAD_KERNEL_PARAMETER', message })

describe('boot parameters', () => {
  it('renderBootParameters leaves out what is not there', () => {
    assert.equal(renderBootParameters(LEAST), `bootwire.servers=10.0.2.2:8443 bootwire.pin=${PIN}`)
    assert.deepEqual(parseBootParameters(renderBootParameters(LEAST)), LEAST)
  })

  it('parseBootParameters reads what renderBootParameters wrote, amid other parameters', () => {
    const parameters: BootParameters = {
      servers: [
        { host: 'boot.example.org', port: 1 },
        { host: 'fe80::1', port: 65_535 },
        { host: 'FE80::ABCD', port: 8443 },
        { host: '::ffff:192.0.2.1', port: 8443 },
      ],
      pin: PIN,
      kernelId: 'c0ffee00',
      bootId: '0123456789abcdef',
      vdisk: 'debian-12.7',
      ramCacheBytes: 67_108_864,
      cacheBudgetBytes: 1_000_000_000,
    }
    const text = renderBootParameters(parameters)
    assert.deepEqual(parseBootParameters(`quiet  root=/dev/nbd0\t${text} debug\n`), parameters)
  })

  it('parseBootParameters takes the last of equal keys, and leaves unknown ones alone', () => {
    const text = `bootwire.servers=a:1 bootwire.new=x ${cmdline('b:2')} bootwire.vdisk`
    assert.deepEqual(parseBootParameters(text), {
      servers: [{ host: 'b', port: 2 }],
      pin: PIN,
      vdisk: '',
    })
  })

  it('parseBootParameters says which parameter is missing', () => {
    assert.throws(() => parseBootParameters(''), refused(/bootwire.servers= is missing/))
    const noPin = 'bootwire.servers=a:1 bootwire.pinn=x'
    assert.throws(() => parseBootParameters(noPin), refused(/bootwire.pin= is missing/))
  })

  for (const servers of [
    '',
    'a',
    'a:',
    ':1',
    'a:0',
    'a:65536',
    'a:1,',
    'a:1,,b:2',
    'a:x',
    '::1:80',
  ]) {
    it(`parseBootParameters refuses the servers "${servers}"`, () => {
      assert.throws(
        () => parseBootParameters(cmdline(servers)),
        refused(/^Cannot use kernel parameter bootwire.servers=.*: expected HOST:PORT/),
      )
    })
  }

  for (const [word, expected] of [
    ['bootwire.pin=short', '43 characters'],
    [`bootwire.pin=${PIN}=`, '43 characters'],
    ['bootwire.kernel=C0FFEE00', 'a hash in hex'],
    ['bootwire.kernel', 'a hash in hex'],
    ['bootwire.boot=0123456', 'an id in hex'],
    ['bootwire.ram-cache=64M', 'a number of bytes'],
    ['bootwire.ram-cache=-1', 'a number of bytes'],
    ['bootwire.cache-budget=1G', 'a number of bytes'],
    ['bootwire.ram-cache=9999999999999999', 'a number of bytes'],
  ] as const) {
    it(`parseBootParameters refuses ${word}`, () => {
      assert.throws(() => parseBootParameters(`${cmdline('a:1')} ${word}`), {
        code: 'BAD_KERNEL_PARAMETER',
        message: new RegExp(
          `^Cannot use kernel parameter ${word.split('=')[0]}=.*: expected ${expected}`,
        ),
      })
    })
  }

  it('kernelParameters splits at the first "=", and at any white space', () => {
    const values = kernelParameters(' a=b=c\tquiet\n__proto__=x  d= ')
    const expected = { a: 'b=c', quiet: '', ['__proto__']: 'x', d: '' }
    assert.deepEqual([...values], Object.entries(expected))
    assert.equal(kernelParameters(' \n').size, 0)
  })
})
