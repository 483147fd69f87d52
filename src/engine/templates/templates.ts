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
import { files, findProcesses, killAndWait, monotonicMs, sleep } from '#platform';
import type { NetworkPlug } from '../machine.ts';
import type { QemuBuild } from '../qemu-command.ts';
import { MemoryHolder } from './memory-holder.ts';
import { type MachineShape, type MakerSettings, makeTemplate, type Template, templateKey } from './template-maker.ts';

/** After a template could not be made, starts boot the kernel for so long before it is tried again. */
const PATIENCE_AFTER_FAILURE_MS = 60_000;
/** Between two looks for processes that are to end. */
const CLOSE_AGAIN_MS = 50;
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
  /** What `template` became. Undefined while it is being made, and when there is none. */
  made: Template | undefined;
  /** Counted against the budget: being made, or made. */
  holds: boolean;
  lastUsed: number;
  failures: number;
  /** Not before this moment (monotonic ms) is another try worth it. */
  retryAtMs: number;
}

export class Templates {
  readonly counters: TemplateCounters = { made: 0, adopted: 0, discarded: 0, failed: 0 };
  readonly #settings: TemplatesSettings;
  readonly #slots = new Map<string, Slot>();
  /** Of thrown away ones, by key, until nothing of them is left: another of the same key lies in the same folder. */
  readonly #leaving = new Map<string, Promise<void>>();
  #uses = 0;
  #opened: Promise<void> | undefined;
  #closed = false;

  constructor(settings: TemplatesSettings) {
    this.#settings = settings;
  }

  /** Adopts what an earlier daemon left and is of this build and whole; ends the rest, also what was half made. */
  async #open(build: QemuBuild): Promise<void> {
    const { folder, log } = this.#settings;
    await files.mkdir(folder, { recursive: true, mode: 0o711 });
    for (const name of await files.readdir(folder)) {
      const stored = await this.#stored(`${folder}/${name}`);
      const flaw = stored === undefined ? 'it is not whole' : await this.#adopt(build, name, stored);
      if (flaw === undefined) continue;
      log(`ending the template ${name} of an earlier daemon: ${flaw}`);
      if (stored !== undefined) this.counters.discarded += 1;
      await files.rm(`${folder}/${name}`, { recursive: true, force: true });
    }
    await endTemplateProcesses(
      folder,
      [...this.#slots.values()].flatMap(({ made }) => made?.memory.identity.pid ?? []),
    );
  }

  /** Why it cannot be used, if so. */
  async #adopt(build: QemuBuild, name: string, stored: v.InferOutput<typeof Stored>): Promise<string | undefined> {
    const { folder, plugKind, budgetBytes } = this.#settings;
    const { shape, stateSha256, holder } = stored;
    const key = await templateKey(build, shape, plugKind);
    if (key !== stored.key || name !== nameOf(key)) return 'it was made with another QEMU, kernel or guest program';
    const memory = MemoryHolder.adopt(holder);
    const template = { key, shape, memory, stateFile: `${folder}/${name}/state`, stateSha256 };
    const flaw = await flawOf(template);
    if (flaw !== undefined) return flaw;
    if (this.#heldBytes() + shape.memoryBytes > budgetBytes) return 'there is no memory for it';
    this.#slots.set(key, { ...emptySlot(Promise.resolve(template), shape), made: template, holds: true });
    this.counters.adopted += 1;
    return undefined;
  }

  /** A template that is in order right now; undefined when there is none and none can be made. Never rejects. */
  async obtain(build: QemuBuild, shape: MachineShape): Promise<Template | undefined> {
    try {
      if (this.#closed) return undefined;
      this.#opened ??= this.#open(build).catch((error: unknown) => {
        // Tried again by the next start: there may be room then.
        this.#opened = undefined;
        throw error;
      });
      await this.#opened;
      const key = await templateKey(build, shape, this.#settings.plugKind);
      for (let tries = 0; tries < 2 && !this.#closed; tries += 1) {
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
    if (slot?.made !== template) return;
    slot.failures += 1;
    if (slot.failures >= MAX_FAILURES)
      await this.discard(template, `${slot.failures} machines could not start from it`);
  }

  cloneWorked(template: Template): void {
    const slot = this.#slots.get(template.key);
    if (slot?.made === template) slot.failures = 0;
  }

  /**
   * Machines that run from it go on; its memory is given back when the last of them has ended. Many starts may find the
   * same flaw at once: the first one throws it away, the others wait for that.
   */
  discard(template: Template, why: string): Promise<void> {
    const { key } = template;
    if (this.#slots.get(key)?.made !== template) return this.#leaving.get(key) ?? Promise.resolve();
    this.#slots.delete(key);
    this.#settings.log(`template ${nameOf(key)} is thrown away: ${why}`);
    this.counters.discarded += 1;
    const leaving = this.#end(template).finally(() => this.#leaving.delete(key));
    this.#leaving.set(key, leaving);
    return leaving;
  }

  /** Ends all templates, also those that are being made. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#opened?.catch(() => {});
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    const settled = Promise.all(slots.map(({ template }) => template));
    // One that is being made fails once its processes are gone; they come one after the other.
    while (!(await Promise.race([settled.then(() => true), sleep(CLOSE_AGAIN_MS).then(() => false)])))
      await endTemplateProcesses(this.#settings.folder, []);
    for (const template of await settled) if (template !== undefined) await this.#end(template);
    await Promise.all(this.#leaving.values());
  }

  async #end(template: Template): Promise<void> {
    await template.memory.end();
    await files.rm(this.#folderOf(template.key), { recursive: true, force: true });
  }

  #slot(key: string, build: QemuBuild, shape: MachineShape): Slot {
    this.#uses += 1;
    const known = this.#slots.get(key);
    if (known !== undefined && (known.retryAtMs === 0 || monotonicMs() < known.retryAtMs)) {
      known.lastUsed = this.#uses;
      return known;
    }
    const made = Promise.withResolvers<Template | undefined>();
    const slot: Slot = { ...emptySlot(made.promise, shape), lastUsed: this.#uses };
    this.#slots.set(key, slot);
    void this.#fill(slot, key, build, shape).then(made.resolve);
    return slot;
  }

  /** Never rejects. */
  async #fill(slot: Slot, key: string, build: QemuBuild, shape: MachineShape): Promise<Template | undefined> {
    try {
      if (!(await this.#makeRoom(slot, key))) return undefined;
      await this.#leaving.get(key);
      slot.made = await this.#make(key, build, shape);
    } catch (error) {
      slot.holds = false;
      slot.retryAtMs = monotonicMs() + PATIENCE_AFTER_FAILURE_MS;
      if (this.#closed) return undefined;
      this.counters.failed += 1;
      this.#settings.log(`no template of ${shape.memoryBytes / MIB} MiB could be made: ${messageOf(error)}`);
    }
    return slot.made;
  }

  async #make(key: string, build: QemuBuild, shape: MachineShape): Promise<Template> {
    const folder = this.#folderOf(key);
    const began = monotonicMs();
    await files.rm(folder, { recursive: true, force: true });
    await files.mkdir(folder, { recursive: true, mode: 0o711 });
    let memory: MemoryHolder | undefined;
    try {
      const template = await makeTemplate(key, shape, build, this.#settings, folder);
      memory = template.memory;
      const document = { key, shape, holder: memory.identity, stateSha256: template.stateSha256 };
      await files.writeFileAtomic(`${folder}/template.json`, JSON.stringify(document), 0o600);
      this.counters.made += 1;
      const ms = Math.round(monotonicMs() - began);
      this.#settings.log(`made the template for ${shape.vcpus} vCPU, ${shape.memoryBytes / MIB} MiB in ${ms} ms`);
      return template;
    } catch (error) {
      await memory?.end();
      await files.rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  #heldBytes(): number {
    return [...this.#slots.values()].reduce((sum, { holds, bytes }) => sum + (holds ? bytes : 0), 0);
  }

  /**
   * Throws away those that were not used for longest until this one fits. False when it does not fit now.
   *
   * Nobody waits for one that is being made: two that wait for one another would never start.
   */
  async #makeRoom(slot: Slot, key: string): Promise<boolean> {
    const { budgetBytes, log } = this.#settings;
    const text = `no template of ${slot.bytes / MIB} MiB: templates may hold ${Math.floor(budgetBytes / MIB)} MiB in all`;
    if (slot.bytes > budgetBytes) {
      log(text);
      return false;
    }
    const oldest = [...this.#slots.values()].sort((a, b) => a.lastUsed - b.lastUsed);
    const leaving: Promise<void>[] = [];
    for (const { made } of oldest) {
      if (this.#heldBytes() + slot.bytes <= budgetBytes) break;
      if (made !== undefined) leaving.push(this.discard(made, 'its memory is needed for another'));
    }
    const fits = this.#heldBytes() + slot.bytes <= budgetBytes;
    slot.holds = fits;
    if (!fits) {
      log(`${text}, and others are being made`);
      if (this.#slots.get(key) === slot) this.#slots.delete(key);
    }
    await Promise.all(leaving);
    return fits;
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

function emptySlot(template: Slot['template'], { memoryBytes }: MachineShape): Slot {
  return { template, bytes: memoryBytes, made: undefined, holds: false, lastUsed: 0, failures: 0, retryAtMs: 0 };
}

/**
 * Ends the processes that make or hold templates under `folder`, but for those in `kept`. A launcher on its way to becoming
 * a VM's QEMU is none of them, although it names a template.
 */
export async function endTemplateProcesses(folder: string, kept: readonly number[]): Promise<void> {
  for (const found of await findProcesses(`${folder}/`))
    if (!kept.includes(found.pid) && !found.argv.includes('--sealed-memory')) await killAndWait(found);
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
