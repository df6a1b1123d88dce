/** One measurement of one server: a load, what it moved, and the CPU time the server took for it. */
import { runProgram } from '#test/support/child-run.ts'
import { ahead } from './ahead.ts'
import type { Peer } from './nbd-peers.ts'

export interface Measured {
  readonly iops: number
  readonly bytesPerSecond: number
  readonly cpuUsPerOp: number
  readonly cpuSecondsPerGb: number
  readonly p50Us: number
  readonly p99Us: number
}

export interface Cell {
  readonly name: string
  run(peer: Peer, imageBytes: number): Promise<Measured>
}

/** Long enough that a tick of the CPU counter is below one percent. */
const FIO_SECONDS = 1.5

/** Random reads over all of the export, by fio's NBD engine. */
export function randomReads(blockBytes: number, depth: number): Cell {
  return {
    name: `${blockBytes / 1024}k qd${depth}`,
    run: async (peer) => {
      const before = peer.cpuMs()
      const read = await runFio(peer.uri, blockBytes, depth)
      const cpuUs = (peer.cpuMs() - before) * 1000
      return {
        iops: read.iops,
        bytesPerSecond: read.iops * blockBytes,
        cpuUsPerOp: cpuUs / read.total_ios,
        cpuSecondsPerGb: (cpuUs / 1e6 / (read.total_ios * blockBytes)) * 1e9,
        p50Us: (read.clat_ns.percentile?.['50.000000'] ?? Number.NaN) / 1000,
        p99Us: (read.clat_ns.percentile?.['99.000000'] ?? Number.NaN) / 1000,
      }
    },
  }
}

/** The whole export, by nbdcopy as it comes: four connections, requests of 256 KiB. */
export const COPY: Cell = {
  name: 'nbdcopy',
  run: async (peer, imageBytes) => {
    const cpuBefore = peer.cpuMs()
    const began = performance.now()
    // To nowhere, so that nothing else limits.
    await runProgram(...ahead(['nbdcopy', peer.uri, 'null:']))
    const seconds = (performance.now() - began) / 1000
    const cpuUs = (peer.cpuMs() - cpuBefore) * 1000
    const requests = imageBytes / (256 * 1024)
    return {
      iops: requests / seconds,
      bytesPerSecond: imageBytes / seconds,
      cpuUsPerOp: cpuUs / requests,
      cpuSecondsPerGb: (cpuUs / 1e6 / imageBytes) * 1e9,
      p50Us: Number.NaN,
      p99Us: Number.NaN,
    }
  },
}

interface FioRead {
  readonly iops: number
  readonly total_ios: number
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> }
}

async function runFio(uri: string, blockBytes: number, depth: number): Promise<FioRead> {
  const options = [
    ['name', 'bench'],
    ['ioengine', 'nbd'],
    ['uri', uri],
    ['rw', 'randread'],
    ['norandommap', '1'],
    ['randrepeat', '0'],
    ['bs', blockBytes],
    ['iodepth', depth],
    ['time_based', '1'],
    ['runtime', `${FIO_SECONDS * 1000}ms`],
    ['output-format', 'json'],
  ]
  const args = options.map(([name, value]) => `--${name}=${value}`)
  const said = await runProgram(...ahead(['fio', ...args]))
  // fio writes notes in front of its JSON.
  const { jobs } = JSON.parse(said.slice(said.indexOf('{'))) as { jobs: [{ read: FioRead }] }
  return jobs[0].read
}
