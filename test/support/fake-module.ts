/** A kernel module that depmod and modinfo can read, and nothing could run: an ELF file with .modinfo. */

const HEADER_BYTES = 64
const SECTION_BYTES = 64

const SECTION_TYPES = { progbits: 1, symtab: 2, strtab: 3 } as const

interface Section {
  readonly name: string
  readonly type: number
  readonly content: Buffer
  readonly link: number
  readonly entryBytes: number
}

/** `info` as MODULE_INFO has it: `alias=pci:…`, `depends=…`, `firmware=…`. */
export function fakeModule(info: readonly string[]): Buffer {
  const sections: Section[] = [
    {
      name: '.modinfo',
      type: SECTION_TYPES.progbits,
      content: zeroEnded(info),
      link: 0,
      entryBytes: 0,
    },
    {
      name: '.symtab',
      type: SECTION_TYPES.symtab,
      content: Buffer.alloc(24),
      link: 3,
      entryBytes: 24,
    },
    {
      name: '.strtab',
      type: SECTION_TYPES.strtab,
      content: Buffer.alloc(1),
      link: 0,
      entryBytes: 0,
    },
  ]
  const names = zeroEnded(['', ...sections.map(({ name }) => name), '.shstrtab'])
  sections.push({
    name: '.shstrtab',
    type: SECTION_TYPES.strtab,
    content: names,
    link: 0,
    entryBytes: 0,
  })
  let offset = HEADER_BYTES
  const headers: Buffer[] = [Buffer.alloc(SECTION_BYTES)]
  for (const section of sections) {
    headers.push(sectionHeader(section, names.indexOf(`${section.name}\0`), offset))
    offset += section.content.length
  }
  const contents = sections.map(({ content }) => content)
  const padding = Buffer.alloc((8 - (offset % 8)) % 8)
  return Buffer.concat([
    fileHeader(offset + padding.length, headers.length),
    ...contents,
    padding,
    ...headers,
  ])
}

/** ELF64, little-endian, relocatable, x86-64 (System V ABI, chapter 4). */
function fileHeader(sectionsOffset: number, sectionCount: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  header.writeUInt16LE(1, 16)
  header.writeUInt16LE(62, 18)
  header.writeUInt32LE(1, 20)
  header.writeBigUInt64LE(BigInt(sectionsOffset), 40)
  header.writeUInt16LE(HEADER_BYTES, 52)
  header.writeUInt16LE(SECTION_BYTES, 58)
  header.writeUInt16LE(sectionCount, 60)
  header.writeUInt16LE(sectionCount - 1, 62)
  return header
}

function sectionHeader(section: Section, nameOffset: number, offset: number): Buffer {
  const header = Buffer.alloc(SECTION_BYTES)
  header.writeUInt32LE(nameOffset, 0)
  header.writeUInt32LE(section.type, 4)
  header.writeBigUInt64LE(BigInt(offset), 24)
  header.writeBigUInt64LE(BigInt(section.content.length), 32)
  header.writeUInt32LE(section.link, 40)
  header.writeBigUInt64LE(1n, 48)
  header.writeBigUInt64LE(BigInt(section.entryBytes), 56)
  return header
}

function zeroEnded(texts: readonly string[]): Buffer {
  return Buffer.from(texts.map((text) => `${text}\0`).join(''), 'latin1')
}
