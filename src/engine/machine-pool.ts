/**
 * Machines that wait for a VM: cloned from the template, and gone once through all that a start does.
 *
 * Under emulation most of a start's time is QEMU translating guest code it meets for the first time. A machine in the pool
 * has met it: it has configured itself for a rehearsal's image, run a process there, and taken all of it down again.
 *
 * The pool follows demand: as many as were started in the last minute, within a bound, and none when the host is short of
 * memory. It is filled while nothing starts. A machine serves once; it holds nothing of any VM before, and its rehearsal
 * used an image of berth's own.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { MIB, messageOf } from '#base';
import { availableMemoryBytes, files, monotonicMs, nowMs, sleep, startTimer, type Timer } from '#platform';
import { clockAt } from './guest-configuration.ts';
import { GuestLink } from './guest-link.ts';
import { type QemuIdentity, RunningMachine } from './machine.ts';
import { DEFAULT_SHAPE, type LayerFile } from './model.ts';
import type { QemuBuild } from './qemu-command.ts';
import { layOutRootDisk } from './root-disk.ts';
import { type MachineShape, type Template, type Templates, templateKey } from './templates/index.ts';

const HELLO_DEADLINE_MS = 30_000;
const CONTROL_DEADLINE_MS = 10_000;
/** Starts of so long ago no longer count as demand. */
const DEMAND_MS = 60_000;
/** Nothing may have started or ended for so long before the pool is filled: a start must not wait for it. */
const QUIET_MS = 150;
/** With less memory available the pool gives back what it has. */
const LEAST_AVAILABLE_BYTES = 1024 * MIB;
const REPLACE_AFTER_MS = 1_000;
/** After a machine could not be made. */
const PATIENCE_AFTER_FAILURE_MS = 30_000;

/** What a rehearsal and a start translate together, beyond what a machine keeps otherwise (decisions/0008). */
const REHEARSAL_MIB = 16;

/** What a rehearsal runs: an image of berth's own, a program in it that ends at once, and an empty disk. */
export interface Rehearsal {
  readonly layers: readonly LayerFile[];
  readonly args: readonly string[];
  makeDisk(path: string, uid: number): Promise<void>;
}

export interface PoolSettings {
  /** For folders with the machines' sockets. */
  readonly folder: string;
  readonly launcher: string;
  /** Most machines that wait at once. */
  readonly most: number;
  readonly kvmGroup: number | undefined;
  readonly templates: Templates;
  readonly build: () => Promise<QemuBuild>;
  /** The bridge every machine's tap joins. */
  readonly bridge: string;
  readonly rehearsal: () => Promise<Rehearsal | undefined>;
  readonly freeUid: () => number;
  readonly log: (line: string) => void;
}

/** A machine that waits: its guest greets and knows nothing yet. */
export interface PooledMachine {
  readonly machine: RunningMachine;
  readonly agent: Duplex;
  readonly uid: number;
  readonly tap: string;
  readonly key: string;
}

export class MachinePool {
  readonly #settings: PoolSettings;
  readonly #waiting = new Set<PooledMachine>();
  readonly #uids = new Set<number>();
  readonly #starts: { readonly atMs: number; readonly shape: MachineShape }[] = [];
  #active = 0;
  #timer: Timer | undefined;
  #filling: Promise<void> | undefined;
  #closed = false;
  #notBeforeMs = 0;

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

  /**
   * A machine of that build and shape, which is the caller's from now on; undefined when none waits. Its user id stays
   * reserved until `forget`: a VM made meanwhile must not get it as well.
   */
  async take(build: QemuBuild, shape: MachineShape): Promise<PooledMachine | undefined> {
    if (this.#waiting.size === 0) return undefined;
    const key = await templateKey(build, shape, 'tap');
    for (const pooled of this.#waiting) {
      if (pooled.key !== key) continue;
      this.#waiting.delete(pooled);
      return pooled;
    }
    return undefined;
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
    if (this.#closed || this.#active > 0 || this.#waiting.size <= 1) return;
    this.#timer?.cancel();
    this.#timer = startTimer(DEMAND_MS, () => this.fillWhenQuiet());
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#filling;
    for (const pooled of this.#waiting) await this.#end(pooled);
  }

  /** Never rejects: a daemon that leaves waits for it. */
  async #fill(): Promise<void> {
    while (!this.#closed && this.#active === 0 && monotonicMs() >= this.#notBeforeMs) {
      try {
        if ((await availableMemoryBytes()) < LEAST_AVAILABLE_BYTES) {
          for (const pooled of this.#waiting) await this.#end(pooled);
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

  /** The shape that has too few machines for its demand. Ends those that fit no build or shape in demand. */
  async #wanted(): Promise<MachineShape | undefined> {
    const { most } = this.#settings;
    const since = monotonicMs() - DEMAND_MS;
    while ((this.#starts[0]?.atMs ?? since) < since) this.#starts.shift();
    const build = await this.#settings.build();
    const demand = new Map<string, { shape: MachineShape; count: number }>();
    for (const { shape } of [{ shape: DEFAULT_SHAPE }, ...this.#starts]) {
      const key = await templateKey(build, shape, 'tap');
      const known = demand.get(key);
      demand.set(key, { shape, count: (known?.count ?? 0) + 1 });
    }
    // More than were asked for in the last minute, or of a shape nobody asked for: their memory is needed elsewhere.
    const kept = new Map<string, number>();
    for (const pooled of this.#waiting) {
      const count = (kept.get(pooled.key) ?? 0) + 1;
      if (count > (demand.get(pooled.key)?.count ?? 0)) await this.#end(pooled);
      else kept.set(pooled.key, count);
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
    const { templates, folder: parent, freeUid } = this.#settings;
    const build = await this.#settings.build();
    const [template, rehearsal] = [await templates.obtain(build, shape), await this.#settings.rehearsal()];
    if (template === undefined || rehearsal === undefined) {
      this.#notBeforeMs = monotonicMs() + PATIENCE_AFTER_FAILURE_MS;
      return;
    }
    const name = `s${randomBytes(6).toString('hex')}`;
    const folder = `${parent}/${name}`;
    const uid = freeUid();
    this.#uids.add(uid);
    try {
      await files.mkdir(folder, { mode: 0o700 });
      await files.chown(folder, uid, uid);
      const pooled = await this.#clone(build, template, rehearsal, { name, folder, uid });
      if (this.#closed) await this.#end(pooled);
      else this.#waiting.add(pooled);
    } catch (error) {
      this.#uids.delete(uid);
      await files.rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async #clone(
    build: QemuBuild,
    template: Template,
    rehearsal: Rehearsal,
    { name, folder, uid }: { readonly name: string; readonly folder: string; readonly uid: number },
  ): Promise<PooledMachine> {
    const { launcher, kvmGroup, bridge } = this.#settings;
    const identity: QemuIdentity = { uid, group: kvmGroup };
    const root = layOutRootDisk(rehearsal.layers);
    const [rootDescriptor, dataDisk] = [`${folder}/root.vmdk`, `${folder}/data.img`];
    await files.writeFileAtomic(rootDescriptor, root.descriptor, 0o644);
    await rehearsal.makeDisk(dataDisk, uid);
    const tap = `b${name}`;
    const { shape } = template;
    const machine = await RunningMachine.launch({
      launcher,
      build,
      identity,
      plug: { kind: 'tap', tap, bridge },
      folder,
      logFile: `${folder}/qemu.log`,
      memory: { path: template.memory.path, sealed: true },
      stateFile: template.stateFile,
      run: {
        name: `berth-${name}`,
        memory: 'restored',
        rootDescriptor,
        dataDisk,
        moreTranslationMib: REHEARSAL_MIB,
        ...shape,
      },
    });
    try {
      let pooled: PooledMachine | undefined;
      const onGone = (): void => {
        if (pooled !== undefined && this.#waiting.has(pooled)) void this.#replace(pooled);
      };
      const agent = await machine.connect({ onGone, onQmpEvent: () => {} });
      await machine.qmp.negotiate(CONTROL_DEADLINE_MS);
      await machine.restore();
      const link = new GuestLink(agent, { onOutput: () => {}, onExited: () => {}, onLog: () => {} });
      const hello = await link.hello(false, HELLO_DEADLINE_MS);
      await link.rehearse(rehearsalOf(root.extents, clockAt(nowMs(), hello.answeredNs)), rehearsal.args);
      link.detach();
      // Open still, and nobody's any more.
      for (const path of [rootDescriptor, dataDisk]) await files.rm(path, { force: true });
      pooled = { machine, agent, uid, tap, key: template.key };
      return pooled;
    } catch (error) {
      await machine.kill();
      throw error;
    }
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
    this.#uids.delete(pooled.uid);
    await files.rm(pooled.machine.identity.folder, { recursive: true, force: true });
  }
}

function rehearsalOf(
  layers: readonly { readonly firstSector: number; readonly sectors: number }[],
  clock: ReturnType<typeof clockAt>,
): Parameters<GuestLink['rehearse']>[0] {
  return {
    hostname: 'rehearsal',
    domainName: '',
    hosts: '127.0.0.1\tlocalhost\n',
    resolvConf: 'nameserver 127.0.0.1\n',
    layers,
    // A documentation network (RFC 5737), on a link that comes up for a moment and says nothing.
    network: {
      mac: '02:00:00:00:00:01',
      address: '192.0.2.2',
      prefixLength: 24,
      gateway: '192.0.2.1',
      mtu: 1500,
    },
    readonlyRoot: false,
    tmpfs: [],
    clock,
    entropy: randomBytes(64),
    shmBytes: 64 * MIB,
    sysctls: {},
    workingDirectory: '/',
    machineId: `${'0'.repeat(32)}\n`,
    productUuid: '',
  };
}
