/**
 * What depmod wrote about a kernel's modules (modules.dep(5) and its siblings), as far as choosing
 * drivers needs it. Pure: text in, names out. Module names have "_" for "-" everywhere here.
 */

export interface ModuleIndexFiles {
  /** modules.dep */
  readonly dependencies: string
  /** modules.softdep */
  readonly softDependencies: string
  /** modules.alias */
  readonly aliases: string
  /** modules.builtin */
  readonly builtin: string
}

export class ModuleIndex {
  /** Path below /lib/modules/RELEASE by module name. */
  readonly #paths = new Map<string, string>()
  readonly #dependencies = new Map<string, string[]>()
  readonly #builtin = new Set<string>()
  /** Modules by the alias they have, wildcards not considered. */
  readonly #byAlias = new Map<string, string[]>()

  constructor(files: ModuleIndexFiles) {
    for (const line of linesOf(files.dependencies)) this.#addModule(line)
    for (const line of linesOf(files.builtin)) this.#builtin.add(moduleName(line))
    for (const line of linesOf(files.aliases)) this.#addAlias(line)
    for (const line of linesOf(files.softDependencies)) this.#addSoftDependencies(line)
  }

  /** True when the kernel has it, as a module or built in. */
  has(name: string): boolean {
    return this.#paths.has(name) || this.#builtin.has(name)
  }

  pathOf(name: string): string | undefined {
    return this.#paths.get(name)
  }

  /** Names of the modules whose path begins with one of the folders (`kernel/drivers/net/phy/`). */
  inFolders(folders: readonly string[]): string[] {
    const found = [...this.#paths].filter(([, path]) => folders.some((it) => path.startsWith(it)))
    return found.map(([name]) => name)
  }

  /** Returns the modules among `names` with all they depend on, sorted; built-in ones are left out. */
  closure(names: Iterable<string>): string[] {
    const found = new Set<string>()
    const todo = [...names]
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (found.has(name) || !this.#paths.has(name)) continue
      found.add(name)
      todo.push(...(this.#dependencies.get(name) ?? []))
    }
    return [...found].sort()
  }

  #addModule(line: string): void {
    const [path = '', dependencies = ''] = line.split(':')
    const name = moduleName(path)
    this.#paths.set(name, path)
    this.#dependencies.set(name, wordsOf(dependencies).map(moduleName))
  }

  /** `alias NAME MODULE` */
  #addAlias(line: string): void {
    const [keyword, alias, module] = wordsOf(line)
    if (keyword !== 'alias' || alias === undefined || module === undefined) return
    const modules = this.#byAlias.get(alias) ?? []
    this.#byAlias.set(alias, [...modules, moduleName(module)])
  }

  /** `softdep MODULE pre: NAME… post: NAME…`, each name a module or an alias */
  #addSoftDependencies(line: string): void {
    const [keyword, module, ...wanted] = wordsOf(line)
    if (keyword !== 'softdep' || module === undefined) return
    const names = wanted
      .filter((word) => !word.endsWith(':'))
      .flatMap((word) => [moduleName(word), ...(this.#byAlias.get(word) ?? [])])
    const known = this.#dependencies.get(moduleName(module)) ?? []
    this.#dependencies.set(moduleName(module), [...known, ...names])
  }
}

/** `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`. */
export function moduleName(path: string): string {
  const base = path.slice(path.lastIndexOf('/') + 1)
  return base.replace(/\.ko(\.(xz|zst|gz))?$/, '').replaceAll('-', '_')
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

function wordsOf(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
