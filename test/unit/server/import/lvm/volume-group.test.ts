import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseLvmText } from '#server/import/lvm/lvm-text.ts'
import { mapperName, mapperUuid, readVolumeGroup } from '#server/import/lvm/volume-group.ts'

const segment = (number: number, start: number, count: number, stripes: string, more = '') => `
  segment${number} {
    start_extent = ${start}
    extent_count = ${count}
    type = "striped"
    stripe_count = 1
    stripes = [ ${stripes} ]
    ${more}
  }`

const volume = (name: string, segments: string, status = '"READ", "VISIBLE"') => `
  ${name} { id = "id-of-${name}" status = [ ${status} ] ${segments} }`

function group(...volumes: string[]) {
  return readVolumeGroup(
    parseLvmText(`
    contents = "Text Format Volume Group"
    my-group {
      id = "group-id" seqno = 7 extent_size = 8
      physical_volumes {
        pv0 { id = "first" pe_start = 2048 }
        pv1 { id = "second" pe_start = 1024 }
      }
      logical_volumes { ${volumes.join('\n')} }
    }`),
  )
}

describe('readVolumeGroup()', () => {
  it('says where each volume lies, in the order of its bytes, neighbors joined', () => {
    const found = group(
      volume(
        'root',
        segment(2, 10, 5, '"pv0", 20') +
          segment(1, 0, 10, '"pv0", 10') +
          segment(3, 15, 1, '"pv1", 0'),
      ),
    )
    assert.deepEqual(found, {
      name: 'my-group',
      uuid: 'group-id',
      sequence: 7,
      volumes: [
        {
          name: 'root',
          uuid: 'id-of-root',
          runs: [
            { physicalVolume: 'first', startSector: 2048 + 80, sectors: 120 },
            { physicalVolume: 'second', startSector: 1024, sectors: 8 },
          ],
        },
      ],
    })
  })

  it('leaves out what is a part of another volume', () => {
    const hidden = volume('root_rmeta_0', segment(1, 0, 1, '"pv0", 0'), '"READ"')
    assert.deepEqual(group(hidden)?.volumes, [])
  })

  it('says what it cannot read', () => {
    const obstacle = (segments: string) => group(volume('v', segments))?.volumes[0]?.obstacle
    assert.equal(obstacle('segment1 { start_extent = 0 extent_count = 1 type = "thin" }'), 'thin')
    assert.equal(obstacle(segment(1, 0, 2, '"pv0", 0', 'stripe_count = 2')), 'striped')
    for (const segments of [
      '',
      'segment1 { }',
      segment(1, 1, 1, '"pv0", 0'),
      segment(1, 0, 1, '"pv0", 0') + segment(2, 2, 1, '"pv0", 1'),
      segment(1, 0, 0, '"pv0", 0'),
      segment(1, 0, 1, '"pv9", 0'),
      segment(1, 0, 1, '"pv0", -1'),
      segment(1, 0, 1, '"pv0", 9007199254740991'),
    ]) {
      assert.equal(obstacle(segments), 'damaged', segments)
    }
  })

  it('is undefined for what describes no group', () => {
    for (const text of ['', 'a = 1', 'vg { }', 'vg { seqno = 1 }', 'vg { id = "x" seqno = "1" }']) {
      assert.equal(readVolumeGroup(parseLvmText(text)), undefined, text)
    }
  })
})

describe('the device mapper', () => {
  it('has names with doubled dashes, and UUIDs without', () => {
    assert.equal(mapperName('my-group', 'root-1'), 'my--group-root--1')
    assert.equal(mapperUuid('ab-cd', 'ef-12'), 'LVM-abcdef12')
  })
})
