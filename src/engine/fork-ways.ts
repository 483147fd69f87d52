/**
 * Two ways to several machines that go on from where one is.
 *
 * By twins: each child is a second process of the parent's QEMU, made while the parent is stopped. Nothing is copied, what
 * QEMU has translated stays, and 10 ms are enough. Under hardware virtualization, or when the parent's memory is not its
 * own alone, there are none.
 *
 * By copy: memory goes into one sealed memfd that all children map privately, the state of the devices into a file. The
 * children's QEMUs start meanwhile, and are filled once both are there.
 */
import { randomBytes } from 'node:crypto';
import { BerthError, shortId } from '#base';
import { files } from '#platform';
import { writeEmpty } from './empty-file.ts';
import { type LaunchPlan, RunningMachine } from './machine.ts';
import type { VmRecord } from './model.ts';
import { launchSaved, type ObtainedMachine } from './run-source.ts';
import { MemoryHolder } from './templates/index.ts';
import { makeTwin } from './twin.ts';

export interface ForkWay {
  obtain(plan: LaunchPlan): Promise<ObtainedMachine>;
  /** Resolves when as many machines were asked for as there will be. @param starts - of the children; they may fail before. */
  gathered(starts: readonly Promise<void>[]): Promise<void>;
  /** Takes of `original`, which is stopped and stays so, what the children are made of. */
  take(original: RunningMachine): Promise<void>;
  /** Everything the children go on from is there: they may run. */
  complete(): void;
  /** It will not be. */
  fail(error: unknown): void;
  /** Gives back what was needed on the way. */
  close(): Promise<void>;
}

/** @source linux/if.h */
const IFF_UP = 0x1;

export interface ForkPrograms {
  readonly memoryProgram: string;
  readonly twinProgram: string | undefined;
  readonly log: (line: string) => void;
}

/** The quicker way that `parent` allows. */
export async function wayToFork(parent: VmRecord, parentDisk: string, programs: ForkPrograms): Promise<ForkWay> {
  const { machine, boot } = parent;
  const { twinProgram } = programs;
  // Booted from its kernel it has a memory that others could map.
  const isTwinnable = machine?.accelerator === 'tcg' && boot.way !== undefined && boot.way !== 'boot';
  if (twinProgram !== undefined && isTwinnable) return new TwinWay(parent, parentDisk, { ...programs, twinProgram });
  return await CopyWay.open(parent, programs.memoryProgram);
}

class CopyWay implements ForkWay {
  readonly #holder: MemoryHolder;
  readonly #stateFile: string;
  readonly #filling = Promise.withResolvers<void>();

  private constructor(holder: MemoryHolder, stateFile: string) {
    this.#holder = holder;
    this.#stateFile = stateFile;
    this.#filling.promise.catch(() => {});
  }

  static async open({ machine, spec, uid, id }: VmRecord, memoryProgram: string): Promise<CopyWay> {
    const stateFile = `${machine?.folder}/fork-${randomBytes(6).toString('hex')}`;
    const holder = await MemoryHolder.hold(memoryProgram, spec.memoryBytes, `berth-fork ${shortId(id)}`);
    try {
      await writeEmpty(stateFile, 0, uid);
    } catch (error) {
      await holder.end();
      throw error;
    }
    return new CopyWay(holder, stateFile);
  }

  obtain(plan: LaunchPlan): Promise<ObtainedMachine> {
    const memory = { path: this.#holder.path, sealed: false };
    return launchSaved(plan, { memory, stateFile: this.#stateFile }, this.#filling.promise);
  }

  async gathered(): Promise<void> {}

  async take(original: RunningMachine): Promise<void> {
    await original.saveDevices(this.#stateFile);
    await this.#holder.fill(original.identity.pid, await original.memoryRange());
  }

  complete(): void {
    this.#filling.resolve();
  }

  fail(error: unknown): void {
    this.#filling.reject(error);
  }

  async close(): Promise<void> {
    await this.#holder.end();
    await files.rm(this.#stateFile, { force: true });
  }
}

interface Asked {
  readonly plan: LaunchPlan;
  readonly answer: PromiseWithResolvers<ObtainedMachine>;
}

class TwinWay implements ForkWay {
  readonly #parent: VmRecord;
  readonly #parentDisk: string;
  readonly #programs: ForkPrograms & { readonly twinProgram: string };
  readonly #asked: Asked[] = [];
  readonly #made: RunningMachine[] = [];
  /** Where twins did not work out. */
  #copy: CopyWay | undefined;
  #heard: () => void = () => {};

  constructor(parent: VmRecord, parentDisk: string, programs: ForkPrograms & { readonly twinProgram: string }) {
    this.#parent = parent;
    this.#parentDisk = parentDisk;
    this.#programs = programs;
  }

  obtain(plan: LaunchPlan): Promise<ObtainedMachine> {
    const answer = Promise.withResolvers<ObtainedMachine>();
    this.#asked.push({ plan, answer });
    this.#heard();
    return answer.promise;
  }

  gathered(starts: readonly Promise<void>[]): Promise<void> {
    let failed = 0;
    return new Promise<void>((resolve) => {
      this.#heard = () => {
        if (this.#asked.length + failed >= starts.length) resolve();
      };
      for (const start of starts)
        start.catch(() => {
          failed += 1;
          this.#heard();
        });
      this.#heard();
    });
  }

  async take(original: RunningMachine): Promise<void> {
    try {
      for (const { plan } of this.#asked) this.#made.push(await this.#twinFor(plan, original));
    } catch (error) {
      if (!(error instanceof BerthError && error.code === 'machine.twin')) throw error;
      this.#programs.log(`the forks of VM ${this.#parent.name} start from a copy: ${error.message}`);
      await this.#endTwins();
      this.#copy = await CopyWay.open(this.#parent, this.#programs.memoryProgram);
      await this.#copy.take(original);
    }
  }

  async #twinFor(plan: LaunchPlan, original: RunningMachine): Promise<RunningMachine> {
    const { plug, identity, folder, logFile } = plan;
    const { dataDisk } = plan.run;
    if (plug.kind !== 'tap' || identity === undefined || dataDisk === undefined)
      throw new BerthError('bug', 'fork.plan', 'a twin needs a tap, a user and a disk of its own');
    const program = this.#programs.twinProgram;
    const disks = [[this.#parentDisk, dataDisk]] as const;
    const place = { uid: identity.uid, folder, logFile, plug, isCutOff: true, files: disks };
    return RunningMachine.adopt(await makeTwin({ program, original: original.identity, ...place }), logFile);
  }

  complete(): void {
    this.#copy?.complete();
    for (const [index, { plan, answer }] of this.#asked.entries()) {
      const machine = this.#made[index];
      if (this.#copy !== undefined) this.#copy.obtain(plan).then(answer.resolve, answer.reject);
      else if (machine !== undefined) answer.resolve(obtained(machine, plan));
    }
    // Its VM's from now on.
    this.#made.length = 0;
  }

  fail(error: unknown): void {
    for (const { answer } of this.#asked) answer.reject(error);
    this.#copy?.fail(error);
  }

  async close(): Promise<void> {
    await this.#endTwins();
    await this.#copy?.close();
  }

  async #endTwins(): Promise<void> {
    for (const machine of this.#made.splice(0)) await machine.kill();
  }
}

function obtained(machine: RunningMachine, { plug }: LaunchPlan): ObtainedMachine {
  return {
    machine,
    run: async () => void (await machine.qmp.execute('cont')),
    // From outside: the guest need not hear of it.
    plugIn: async () => {
      if (plug.kind === 'tap' && plug.bridge !== undefined) await bringUp(plug.tap);
    },
  };
}

/** By sysfs, which spares a process. @source Linux, Documentation/ABI/testing/sysfs-class-net: `flags` */
async function bringUp(tap: string): Promise<void> {
  const handle = await files.open(`/sys/class/net/${tap}/flags`, 'r+');
  try {
    const flags = Number((await handle.readFile('utf8')).trim());
    await handle.write(`0x${(flags | IFF_UP).toString(16)}`, 0);
  } finally {
    await handle.close();
  }
}
