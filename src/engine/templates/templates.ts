/**
 * The templates of one daemon: made when first wanted, once however many want it, kept within a budget of memory, and
 * thrown away when broken or out of date.
 *
 * Nothing here is needed to run a VM: whoever gets no template boots the kernel. So every failure is a line in the log
 * and a number in the counters, never an error for the one who starts a VM.
 */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { MIB, messageOf } from '#base';
import { files, monotonicMs } from '#platform';
import type { NetworkPlug } from '../machine.ts';
import type { QemuBuild } from '../qemu-command.ts';
import { MemoryHolder } from './memory-holder.ts';
import { type MachineShape, type MakerSettings, makeTemplate, type Template, templateKey } from './template-maker.ts';

/** After a template could not be made, starts boot the kernel for so long before it is tried again. */
const PATIENCE_AFTER_FAILURE_MS = 60_000;
/** A template that failed so many clones in a row is made anew. */
const MAX_FAILURES = 2;

export interface TemplatesSettings extends MakerSettings {
  /** On a memory file system: it is gone when the host starts anew, as the memory is. */
  readonly folder: string;
  /** Memory of guests that all templates together may hold. */
  readonly budgetBytes: number;
  readonly plugKind: NetworkPlug['kind'];
  readonly log: (line: string) => void;
}

export interface TemplateCounters {
  made: number;
  adopted: number;
  discarded: number;
  failed: number;
}

const Stored = v.object({
  key: v.string(),
  shape: v.object({ vcpus: v.number(), memoryBytes: v.number() }),
  holder: v.object({ pid: v.number(), startTicks: v.number() }),
  stateSha256: v.string(),
});

interface Slot {
  readonly template: Promise<Template | undefined>;
  readonly bytes: number;
  lastUsed: number;
  failures: number;
  /** Not before this moment (monotonic ms) is another try worth it. */
  retryAtMs: number;
}

export class Templates {
  readonly counters: TemplateCounters = { made: 0, adopted: 0, discarded: 0, failed: 0 };
  readonly #settings: TemplatesSettings;
  readonly #slots = new Map<string, Slot>();
  #uses = 0;
  #opened: Promise<void> | undefined;

  constructor(settings: TemplatesSettings) {
    this.#settings = settings;
  }

  /** Ends what an earlier daemon left of another build, or half made. */
  async #open(build: QemuBuild): Promise<void> {
    const { folder, log } = this.#settings;
    await files.mkdir(folder, { recursive: true, mode: 0o711 });
    for (const name of await files.readdir(folder)) {
      const stored = await this.#stored(`${folder}/${name}`);
      if (stored !== undefined) {
        const key = await templateKey(build, stored.shape, this.#settings.plugKind);
        if (key === stored.key && name === nameOf(key)) continue;
        log(`ending the template ${name}, which was made with another QEMU, kernel or guest program`);
        await MemoryHolder.adopt(stored.holder).end();
        this.counters.discarded += 1;
      }
      await files.rm(`${folder}/${name}`, { recursive: true, force: true });
    }
  }

  /** A template that is in order right now; undefined when there is none and none can be made. Never rejects. */
  async obtain(build: QemuBuild, shape: MachineShape): Promise<Template | undefined> {
    try {
      this.#opened ??= this.#open(build);
      await this.#opened;
      const key = await templateKey(build, shape, this.#settings.plugKind);
      for (let tries = 0; tries < 2; tries += 1) {
        const template = await this.#slot(key, build, shape).template;
        if (template === undefined) return undefined;
        const flaw = await flawOf(template);
        if (flaw === undefined) return template;
        await this.discard(template, flaw);
      }
    } catch (error) {
      this.#settings.log(`no template: ${messageOf(error)}`);
    }
    return undefined;
  }

  /** A machine could not be started from `template`. */
  async cloneFailed(template: Template): Promise<void> {
    const slot = this.#slots.get(template.key);
    if (slot === undefined || (await slot.template) !== template) return;
    slot.failures += 1;
    if (slot.failures >= MAX_FAILURES)
      await this.discard(template, `${slot.failures} machines could not start from it`);
  }

  cloneWorked(template: Template): void {
    const slot = this.#slots.get(template.key);
    if (slot !== undefined) slot.failures = 0;
  }

  /** Machines that run from it go on; its memory is given back when the last of them has ended. */
  async discard(template: Template, why: string): Promise<void> {
    const slot = this.#slots.get(template.key);
    if (slot !== undefined && (await slot.template) === template) this.#slots.delete(template.key);
    this.#settings.log(`template ${nameOf(template.key)} is thrown away: ${why}`);
    this.counters.discarded += 1;
    await template.memory.end();
    await files.rm(this.#folderOf(template.key), { recursive: true, force: true });
  }

  /** Ends all templates. */
  async close(): Promise<void> {
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    for (const slot of slots) {
      const template = await slot.template;
      if (template === undefined) continue;
      await template.memory.end();
      await files.rm(this.#folderOf(template.key), { recursive: true, force: true });
    }
    // Those of an earlier daemon that nobody here asked for.
    const { folder } = this.#settings;
    for (const name of (await files.exists(folder)) ? await files.readdir(folder) : []) {
      const stored = await this.#stored(`${folder}/${name}`);
      if (stored !== undefined) await MemoryHolder.adopt(stored.holder).end();
      await files.rm(`${folder}/${name}`, { recursive: true, force: true });
    }
  }

  #slot(key: string, build: QemuBuild, shape: MachineShape): Slot {
    this.#uses += 1;
    const known = this.#slots.get(key);
    if (known !== undefined && (known.retryAtMs === 0 || monotonicMs() < known.retryAtMs)) {
      known.lastUsed = this.#uses;
      return known;
    }
    const slot: Slot = {
      template: this.#provide(key, build, shape).catch((error: unknown) => {
        slot.retryAtMs = monotonicMs() + PATIENCE_AFTER_FAILURE_MS;
        this.counters.failed += 1;
        this.#settings.log(`no template of ${shape.memoryBytes / MIB} MiB could be made: ${messageOf(error)}`);
        return undefined;
      }),
      bytes: shape.memoryBytes,
      lastUsed: this.#uses,
      failures: 0,
      retryAtMs: 0,
    };
    this.#slots.set(key, slot);
    return slot;
  }

  async #provide(key: string, build: QemuBuild, shape: MachineShape): Promise<Template | undefined> {
    if (!(await this.#makeRoom(key, shape.memoryBytes))) return undefined;
    const folder = this.#folderOf(key);
    const stored = await this.#stored(folder);
    if (stored?.key === key) {
      const memory = MemoryHolder.adopt(stored.holder);
      const template = { key, shape, memory, stateFile: `${folder}/state`, stateSha256: stored.stateSha256 };
      if ((await flawOf(template)) === undefined) {
        this.counters.adopted += 1;
        return template;
      }
      await memory.end();
    }
    const began = monotonicMs();
    await files.rm(folder, { recursive: true, force: true });
    await files.mkdir(folder, { recursive: true, mode: 0o711 });
    try {
      const template = await makeTemplate(key, shape, build, this.#settings, folder);
      const { memory, stateSha256 } = template;
      const document = { key, shape, holder: memory.identity, stateSha256 };
      await files.writeFileAtomic(`${folder}/template.json`, JSON.stringify(document), 0o600);
      this.counters.made += 1;
      const ms = Math.round(monotonicMs() - began);
      this.#settings.log(`made the template for ${shape.vcpus} vCPU, ${shape.memoryBytes / MIB} MiB in ${ms} ms`);
      return template;
    } catch (error) {
      await files.rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Throws away those that were not used for longest until `bytes` more fit. False when they never will. */
  async #makeRoom(key: string, bytes: number): Promise<boolean> {
    const { budgetBytes, log } = this.#settings;
    if (bytes > budgetBytes) {
      log(`no template of ${bytes / MIB} MiB: templates may hold ${Math.floor(budgetBytes / MIB)} MiB in all`);
      return false;
    }
    for (;;) {
      const others = [...this.#slots].filter(([other, slot]) => other !== key && slot.retryAtMs === 0);
      const used = others.reduce((sum, [, slot]) => sum + slot.bytes, 0);
      if (used + bytes <= budgetBytes) return true;
      const [oldest] = others.sort(([, a], [, b]) => a.lastUsed - b.lastUsed);
      if (oldest === undefined) return true;
      const [oldKey, slot] = oldest;
      const template = await slot.template;
      if (template === undefined) this.#slots.delete(oldKey);
      else await this.discard(template, 'its memory is needed for another');
    }
  }

  async #stored(folder: string): Promise<v.InferOutput<typeof Stored> | undefined> {
    const text = await files.readTextIfExists(`${folder}/template.json`);
    if (text === undefined) return undefined;
    try {
      return v.parse(Stored, JSON.parse(text));
    } catch {
      return undefined;
    }
  }

  #folderOf(key: string): string {
    return `${this.#settings.folder}/${nameOf(key)}`;
  }
}

function nameOf(key: string): string {
  return key.slice(0, 16);
}

/** What is wrong with a template, if anything: its holder ended, its state was changed, cut or removed. */
async function flawOf(template: Template): Promise<string | undefined> {
  if (!(await template.memory.alive())) return 'the process that holds its memory has ended';
  let state: Buffer;
  try {
    state = await files.readFile(template.stateFile);
  } catch (error) {
    return `its state cannot be read: ${messageOf(error)}`;
  }
  const digest = createHash('sha256').update(state).digest('hex');
  return digest === template.stateSha256 ? undefined : 'its state is not what was saved';
}
