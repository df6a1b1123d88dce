/** Holds the files of a mounted image against the rules, and tells what was found, never its content. */
import { printable } from '#server/printable.ts'
import { KiB, MiB } from '#shared/units.ts'
import { type LintFinding, type LintPlace, type LintReport, SEVERITIES } from './lint-report.ts'
import { LINT_RULES, type LintRule, type LintSign } from './lint-rules.ts'
import { trailsBelow, trailsOf } from './path-pattern.ts'
import type { FileHead } from './recognizers.ts'
import {
  type MountedTree,
  TreeWalk,
  WALK_LIMITS,
  type WalkedFile,
  type WalkLimits,
} from './tree-walk.ts'

/** A shadow file of a thousand accounts has 100 KB. */
const FILE_BYTES_MAX: number = 256 * KiB

/** Where any file may be a key: behind its certificates, of some 2 KB each, it is still found. */
const LAST_RESORT_BYTES_MAX: number = 32 * KiB

/** A large home of small files; some seconds. */
const TOTAL_BYTES_MAX: number = 512 * MiB

/** A person reads the list; the first show what is the matter. */
const PLACES_MAX = 20

/** As wide as two lines of a terminal; paths may have 4 KiB. */
const PATH_LENGTH_MAX = 160

/** Those of the walk for each file system, time and the others for the whole image. */
export interface LintLimits extends WalkLimits {
  readonly fileBytesMax: number
  readonly totalBytesMax: number
  readonly placesMax: number
}

export const LINT_LIMITS: LintLimits = {
  ...WALK_LIMITS,
  fileBytesMax: FILE_BYTES_MAX,
  totalBytesMax: TOTAL_BYTES_MAX,
  placesMax: PLACES_MAX,
}

/** A sign, and what it is one of. */
interface RuleSign extends LintSign {
  readonly rule: LintRule
}

/** Last resorts at the end, when it is known whether something else was found. */
const SIGNS: readonly RuleSign[] = LINT_RULES.flatMap((rule) =>
  rule.signs.map((sign) => ({ ...sign, rule })),
).sort((a, b) => Number(a.isLastResort ?? false) - Number(b.isLastResort ?? false))

const TRAILS = SIGNS.flatMap((sign) => sign.where.flatMap((path) => trailsOf(sign, path)))

/** True when something may be found below this folder of an image. */
export function isSearched(folder: string): boolean {
  return trailsBelow(TRAILS, folder).length > 0
}

/** The search of one image, file system by file system. */
export class ImageLint {
  readonly #limits: LintLimits
  readonly #found = new Map<LintRule, LintPlace[]>()
  readonly #incomplete: string[] = []
  #spentMs = 0
  #bytes = 0
  #unreadFiles = 0
  #cutFiles = 0

  constructor(limits: LintLimits = LINT_LIMITS) {
    this.#limits = limits
  }

  /**
   * Nothing beside the tree is read, whatever its links say.
   * @throws the signal's reason; an error when the root cannot be opened
   */
  async search(tree: MountedTree, signal: AbortSignal): Promise<void> {
    const beganMs = performance.now()
    const timeMsMax = Math.max(0, this.#limits.timeMsMax - this.#spentMs)
    const walk = new TreeWalk(tree, TRAILS, { ...this.#limits, timeMsMax })
    for await (const file of walk.files(signal)) await this.#look(file)
    this.#spentMs += performance.now() - beganMs
    const where = tree.at === '' ? '' : ` below ${shownPath(tree.at)}`
    this.#incomplete.push(...walk.incomplete().map((sentence) => sentence + where))
  }

  /** `missing`: sentences about what was not there to be searched. */
  report(missing: readonly string[] = []): LintReport {
    return {
      findings: this.#findings(),
      incomplete: [...this.#incomplete, ...this.#unread(), ...missing],
    }
  }

  async #look(file: WalkedFile<RuleSign>): Promise<void> {
    const signs = SIGNS.filter(
      (sign) => file.owners.includes(sign) && sign.except?.test(file.path) !== true,
    )
    const isLastResort = signs.every((sign) => sign.isLastResort === true)
    const head = signs.length === 0 ? undefined : await this.#read(file, isLastResort)
    if (head === undefined) return
    let isFound = false
    for (const sign of signs) {
      if (sign.isLastResort === true && isFound) continue
      const detail = sign.isFound(head)
      if (detail === undefined) continue
      isFound = true
      this.#add(sign.rule, { path: shownPath(file.path), ...(detail !== '' && { detail }) })
    }
    const isCut = head.bytes.length < file.sizeBytes
    if (isCut && !isFound && !isLastResort) this.#cutFiles += 1
  }

  #findings(): LintFinding[] {
    const { placesMax } = this.#limits
    const found = LINT_RULES.flatMap((rule): LintFinding[] => {
      const places = this.#found.get(rule)?.sort((a, b) => (a.path < b.path ? -1 : 1))
      if (places === undefined) return []
      const { kind, severity, what, action } = rule
      const [shown, more] = [places.slice(0, placesMax), Math.max(0, places.length - placesMax)]
      return [{ kind, severity, what, action, places: shown, more }]
    })
    const rank = ({ severity }: LintFinding) => SEVERITIES.indexOf(severity)
    return found.sort((a, b) => rank(a) - rank(b))
  }

  #unread(): string[] {
    const { fileBytesMax, totalBytesMax } = this.#limits
    const cases: [number, string][] = [
      [
        this.#cutFiles,
        `Files of which only the first ${fileBytesMax / KiB} KiB were read: ${this.#cutFiles}`,
      ],
      [
        this.#unreadFiles,
        `Files that were not read, since ${totalBytesMax / MiB} MiB had been: ${this.#unreadFiles}`,
      ],
    ]
    return cases.filter(([count]) => count > 0).map(([, sentence]) => sentence)
  }

  async #read(file: WalkedFile<RuleSign>, isLastResort: boolean): Promise<FileHead | undefined> {
    const { sizeBytes } = file
    if (sizeBytes === 0) return undefined
    const { fileBytesMax, totalBytesMax } = this.#limits
    const bytesMax = isLastResort ? Math.min(LAST_RESORT_BYTES_MAX, fileBytesMax) : fileBytesMax
    if (this.#bytes + Math.min(sizeBytes, bytesMax) > totalBytesMax) {
      this.#unreadFiles += 1
      return undefined
    }
    const bytes = await file.read(Math.min(sizeBytes, bytesMax))
    if (bytes === undefined) return undefined
    this.#bytes += bytes.length
    return new ReadHead(bytes)
  }

  #add(rule: LintRule, place: LintPlace): void {
    const places = this.#found.get(rule)
    if (places === undefined) this.#found.set(rule, [place])
    else places.push(place)
  }
}

/** Most files are no text, and for most that does not matter. */
class ReadHead implements FileHead {
  readonly bytes: Buffer
  #text: string | undefined

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get text(): string {
    this.#text ??= this.bytes.toString()
    return this.#text
  }
}

function shownPath(path: string): string {
  const text = printable(path)
  return text.length > PATH_LENGTH_MAX ? `${text.slice(0, PATH_LENGTH_MAX)}…` : text
}
