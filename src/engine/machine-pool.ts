/**
 * Machines that wait for a VM, and moulds to make them from.
 *
 * Under emulation most of a start's time is QEMU translating guest code it meets for the first time. A mould has met it
 * (mould.ts), and a twin of it, made in 10 ms, has met it as well. Few wait ready, since a twin can be had at any time; where
 * there are no twins, each machine that waits has rehearsed by itself.
 *
 * The pool follows demand: as many as were started in the last minute, within a bound, and none when the host is short of
 * memory. It is filled while nothing starts. A machine serves once; it holds nothing of any VM before, and its rehearsal
 * used an image of berth's own.
 */
import { randomBytes } from 'node:crypto';
import { MIB, messageOf } from '#base';
import { availableMemoryBytes, files, monotonicMs, sleep, startTimer, type Timer } from '#platform';
import { Blank } from './blank.ts';
import { DEFAULT_SHAPE } from './model.ts';
import { type FreshMachine, Mould, type MouldSettings, makeRehearsed, type Place } from './mould.ts';
import type { QemuBuild } from './qemu-command.ts';
import { type MachineShape, type Templates, templateKey } from './templates/index.ts';

/** Starts of so long ago no longer count as demand. */
const DEMAND_MS = 60_000;
/** Nothing may have started or ended for so long before the pool is filled: a start must not wait for it. */
const QUIET_MS = 150;
/** With less memory available the pool gives back what it has. */
const LEAST_AVAILABLE_BYTES = 1024 * MIB;
const REPLACE_AFTER_MS = 1_000;
/** Twins that may fail in a row before there are none: whatever is in their way stays there. */
const MAX_TWIN_FAILURES = 3;
/** Shapes of which machines can be had at once; each takes 40 MB. */
const MOST_MOULDS = 8;
/** After a machine could not be made. */
const PATIENCE_AFTER_FAILURE_MS = 30_000;

export interface PoolSettings extends MouldSettings {
  /** For folders with the machines' sockets. */
  readonly folder: string;
  /** Most machines that wait at once. */
  readonly most: number;
  /** Most that wait at once where a twin can be had at any time. */
  readonly mostTwins: number;
  readonly templates: Templates;
  readonly build: () => Promise<QemuBuild>;
  readonly freeUid: () => number;
}

/** A machine that waits: its guest greets and knows nothing yet. */
export interface PooledMachine extends FreshMachine {
  readonly key: string;
}

export class MachinePool {
  readonly #settings: PoolSettings;
  readonly #waiting = new Set<PooledMachine>();
  readonly #moulds = new Map<string, Mould>();
  readonly #blanks = new Map<string, Blank>();
  readonly #makingBlanks = new Map<string, Promise<void>>();
  readonly #uids = new Set<number>();
  readonly #starts: { readonly atMs: number; readonly shape: MachineShape }[] = [];
  #active = 0;
  #timer: Timer | undefined;
  #filling: Promise<void> | undefined;
  #closed = false;
  #notBeforeMs = 0;
  /** Twins that could not be made, one after the other. */
  #twinFailures = 0;

  constructor(settings: PoolSettings) {
    this.#settings = settings;
  }

  /** User ids in use here. */
  get uids(): ReadonlySet<number> {
    return this.#uids;
  }

  get size(): number {
    return this.#waiting.size;
  }

  get mouldCount(): number {
    return this.#moulds.size;
  }

  /**
   * A machine of that build and shape, which is the caller's from now on; undefined when none waits and none can be had at
   * once. Its user id stays reserved until `forget`: a VM made meanwhile must not get it as well.
   */
  async take(build: QemuBuild, shape: MachineShape): Promise<FreshMachine | undefined> {
    if (this.#waiting.size === 0 && this.#moulds.size === 0) return undefined;
    const key = await templateKey(build, shape, 'tap');
    for (const pooled of this.#waiting) {
      if (pooled.key !== key) continue;
      this.#waiting.delete(pooled);
      return pooled;
    }
    const mould = this.#moulds.get(key);
    return mould === undefined || this.#closed ? undefined : await this.#twinOf(mould);
  }

  /**
   * A QEMU of that build and shape to make twins of that are filled; undefined when there is none yet: then one is made for
   * the next who asks.
   */
  async blank(build: QemuBuild, shape: MachineShape): Promise<Blank | undefined> {
    if (this.#closed || !this.#hasTwins(build)) return undefined;
    const key = await templateKey(build, shape, 'tap');
    const blank = this.#blanks.get(key);
    if (blank === undefined) {
      if (!this.#makingBlanks.has(key)) this.#makingBlanks.set(key, this.#makeBlank(key, build, shape));
      return undefined;
    }
    if (await blank.alive()) return blank;
    await this.spoilt(blank);
    return undefined;
  }

  /** A blank that gives no twin: the next who asks has another made. */
  async spoilt(blank: Blank): Promise<void> {
    // Many may find that at once.
    if (this.#blanks.get(blank.key) !== blank) return;
    this.#blanks.delete(blank.key);
    await blank.end();
    this.#uids.delete(blank.uid);
  }

  /** Never rejects. */
  async #makeBlank(key: string, build: QemuBuild, shape: MachineShape): Promise<void> {
    const { twinProgram, templates, log } = this.#settings;
    try {
      const template = await templates.obtain(build, shape);
      if (template === undefined || twinProgram === undefined) return;
      const settings = { ...this.#settings, twinProgram };
      this.#blanks.set(key, await this.#at((place) => Blank.make(build, template, place, settings)));
    } catch (error) {
      log(`no QEMU to wake machines with: ${messageOf(error)}`);
    } finally {
      this.#makingBlanks.delete(key);
    }
  }

  /** The user id of a machine that was taken is a VM's by now, or nobody's. */
  forget(uid: number): void {
    this.#uids.delete(uid);
  }

  /** A start, or anything else that should not be slowed down, is under way until the answer is called. */
  busy(shape?: MachineShape): () => void {
    if (shape !== undefined) this.#starts.push({ atMs: monotonicMs(), shape });
    this.#active += 1;
    this.#timer?.cancel();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#active -= 1;
      this.fillWhenQuiet();
    };
  }

  /** Machines are made once nothing has happened for a moment. */
  fillWhenQuiet(): void {
    if (this.#closed || this.#active > 0) return;
    this.#timer?.cancel();
    this.#timer = startTimer(QUIET_MS, () => {
      this.#filling ??= this.#fill().finally(() => {
        this.#filling = undefined;
        this.#lookAgain();
      });
    });
  }

  /** Demand falls without anything happening. */
  #lookAgain(): void {
    if (this.#closed || this.#active > 0 || this.#waiting.size + this.#moulds.size <= 1) return;
    this.#timer?.cancel();
    this.#timer = startTimer(DEMAND_MS, () => this.fillWhenQuiet());
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#filling;
    await this.#endAll();
  }

  async #endAll(): Promise<void> {
    for (const pooled of this.#waiting) await this.#end(pooled);
    for (const mould of this.#moulds.values()) await this.#endMould(mould);
    await Promise.all(this.#makingBlanks.values());
    for (const blank of this.#blanks.values()) await this.spoilt(blank);
  }

  /** Never rejects: a daemon that leaves waits for it. */
  async #fill(): Promise<void> {
    while (!this.#closed && this.#active === 0 && monotonicMs() >= this.#notBeforeMs) {
      try {
        if ((await availableMemoryBytes()) < LEAST_AVAILABLE_BYTES) {
          await this.#endAll();
          return;
        }
        const shape = await this.#wanted();
        if (shape === undefined) return;
        await this.#make(shape);
      } catch (error) {
        this.#notBeforeMs = monotonicMs() + PATIENCE_AFTER_FAILURE_MS;
        this.#settings.log(`the pool gets no machine: ${messageOf(error)}`);
      }
    }
  }

  #hasTwins(build: QemuBuild): boolean {
    const { twinProgram } = this.#settings;
    return twinProgram !== undefined && build.accelerator === 'tcg' && this.#twinFailures < MAX_TWIN_FAILURES;
  }

  /** The shape that has too few machines for its demand. Ends those that fit no build or shape in demand. */
  async #wanted(): Promise<MachineShape | undefined> {
    const since = monotonicMs() - DEMAND_MS;
    while ((this.#starts[0]?.atMs ?? since) < since) this.#starts.shift();
    const build = await this.#settings.build();
    const most = this.#hasTwins(build) ? this.#settings.mostTwins : this.#settings.most;
    const demand = new Map<string, { shape: MachineShape; count: number }>();
    for (const { shape } of [{ shape: DEFAULT_SHAPE }, ...this.#starts]) {
      const key = await templateKey(build, shape, 'tap');
      const known = demand.get(key);
      demand.set(key, { shape, count: (known?.count ?? 0) + 1 });
    }
    for (const mould of this.#moulds.values()) if (!demand.has(mould.key)) await this.#endMould(mould);
    // More than were asked for in the last minute, or of a shape nobody asked for: their memory is needed elsewhere.
    const kept = new Map<string, number>();
    for (const pooled of this.#waiting) {
      const count = (kept.get(pooled.key) ?? 0) + 1;
      if (count > (demand.get(pooled.key)?.count ?? 0)) await this.#end(pooled);
      else kept.set(pooled.key, count);
    }
    if (this.#hasTwins(build) && this.#moulds.size < MOST_MOULDS) {
      // However many wait of other shapes: with a mould any number can be had, without one not one.
      const shapeless = [...demand]
        .filter(([key]) => !this.#moulds.has(key))
        .sort(([, a], [, b]) => b.count - a.count)[0];
      if (shapeless !== undefined) return shapeless[1].shape;
    }
    if (this.#waiting.size >= most) return undefined;
    const wanting = [...demand]
      .map(([key, { shape, count }]) => ({
        shape,
        missing: Math.min(count, most) - [...this.#waiting].filter((pooled) => pooled.key === key).length,
      }))
      .sort((a, b) => b.missing - a.missing)[0];
    return wanting !== undefined && wanting.missing > 0 ? wanting.shape : undefined;
  }

  async #make(shape: MachineShape): Promise<void> {
    const build = await this.#settings.build();
    const key = await templateKey(build, shape, 'tap');
    const { twinProgram, bridge } = this.#settings;
    let fresh: FreshMachine | undefined;
    if (twinProgram === undefined || !this.#hasTwins(build)) {
      fresh = await this.#rehearsed(build, shape);
    } else {
      let mould = this.#moulds.get(key);
      if (mould === undefined) {
        const original = await this.#rehearsed(build, shape);
        if (original === undefined) return;
        mould = await Mould.of(key, original, twinProgram, bridge).catch(async (error: unknown) => {
          await this.#giveUp({ folder: original.machine.identity.folder, uid: original.uid });
          throw error;
        });
        this.#moulds.set(key, mould);
        // Of the shapes in demand one at a time: what waits comes after.
        return;
      }
      fresh = await this.#twinOf(mould);
    }
    if (fresh === undefined) return;
    const pooled: PooledMachine = { ...fresh, key };
    const onGone = (): void => {
      if (this.#waiting.has(pooled)) void this.#replace(pooled);
    };
    pooled.machine.listen({ onGone, onQmpEvent: () => {} });
    this.#waiting.add(pooled);
    if (this.#closed) await this.#end(pooled);
    else if (!(await pooled.machine.alive())) onGone();
  }

  /** One that has rehearsed by itself; undefined when there is no template, or nothing to rehearse with. */
  async #rehearsed(build: QemuBuild, shape: MachineShape): Promise<FreshMachine | undefined> {
    const template = await this.#settings.templates.obtain(build, shape);
    const rehearsal = await this.#settings.rehearsal();
    if (template === undefined || rehearsal === undefined) {
      this.#notBeforeMs = monotonicMs() + PATIENCE_AFTER_FAILURE_MS;
      return undefined;
    }
    return await this.#at((place) => makeRehearsed(build, template, rehearsal, place, this.#settings));
  }

  /** Undefined when it did not work out: then the mould is of no use. Never rejects. */
  async #twinOf(mould: Mould): Promise<FreshMachine | undefined> {
    try {
      const fresh = await this.#at((place) => mould.twin(place));
      this.#twinFailures = 0;
      return fresh;
    } catch (error) {
      this.#twinFailures += 1;
      const last =
        this.#twinFailures === MAX_TWIN_FAILURES ? '; machines of the pool start on their own from now on' : '';
      this.#settings.log(`a machine could not be made from its mould: ${messageOf(error)}${last}`);
      await this.#endMould(mould);
      return undefined;
    }
  }

  /** @throws what `make` throws; then the place is nobody's */
  async #at<T>(make: (place: Place) => Promise<T>): Promise<T> {
    const place = {
      folder: `${this.#settings.folder}/s${randomBytes(6).toString('hex')}`,
      uid: this.#settings.freeUid(),
    };
    this.#uids.add(place.uid);
    try {
      await files.mkdir(place.folder, { mode: 0o700 });
      await files.chown(place.folder, place.uid, place.uid);
      return await make(place);
    } catch (error) {
      await this.#giveUp(place);
      throw error;
    }
  }

  async #giveUp({ folder, uid }: Place): Promise<void> {
    this.#uids.delete(uid);
    await files.rm(folder, { recursive: true, force: true });
  }

  /** It ended while it waited. */
  async #replace(pooled: PooledMachine): Promise<void> {
    this.#waiting.delete(pooled);
    this.#settings.log(`a machine of the pool ended while it waited: ${await pooled.machine.lastWords()}`);
    await this.#end(pooled);
    // Whatever ended it may end the next one too: not at once.
    await sleep(REPLACE_AFTER_MS);
    this.fillWhenQuiet();
  }

  async #end(pooled: PooledMachine): Promise<void> {
    this.#waiting.delete(pooled);
    await pooled.machine.kill();
    await this.#giveUp({ folder: pooled.machine.identity.folder, uid: pooled.uid });
  }

  /** Machines made of it go on. */
  async #endMould(mould: Mould): Promise<void> {
    if (this.#moulds.get(mould.key) !== mould) return;
    this.#moulds.delete(mould.key);
    await mould.end();
    this.#uids.delete(mould.uid);
  }
}
