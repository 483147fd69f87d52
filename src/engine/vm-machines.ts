/**
 * The ways to a machine for one VM: from the pool, a clone of a template, a boot of the kernel, another's memory, or a QEMU to
 * be filled with what was put away.
 *
 * Each way that does not work out leaves nothing behind, and the next one has its turn. What is decided of the VM's state
 * meanwhile is the VM's own; here it is only looked at.
 */
import { messageOf, shortId } from '#base';
import { files } from '#platform';
import { type LaunchPlan, type NetworkPlug, RunningMachine } from './machine.ts';
import type { MachinePool } from './machine-pool.ts';
import type { BootStage, BootTimings, NetworkAttachment, SavedMachine, VmRecord } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import type { QemuBuild } from './qemu-command.ts';
import type { Extent } from './root-disk.ts';
import type { RunSource } from './run-source.ts';
import { restoring } from './saved-machine.ts';
import { letGoOfMemoryFile } from './twin.ts';
import type { VmFolders } from './vm-folders.ts';
import type { VmSession } from './vm-session.ts';
import type { ObtainedToFill } from './vm-sleep.ts';

export type Way = NonNullable<BootTimings['way']>;

/** The VM, as the way to its machine needs it. */
export interface MachineHost {
  readonly record: VmRecord;
  /** What it is called in its network. */
  readonly names: readonly string[];
  /** Stored with the next state. */
  remember(record: VmRecord): void;
  reached(stage: BootStage): void;
  newSession(machine: RunningMachine): VmSession;
  /** There is a machine, and nobody has greeted its guest: it is stored. */
  settled(session: VmSession, way: Way, network: NetworkAttachment | undefined): void;
  /** It is no more. */
  unsettled(session: VmSession): void;
}

export interface MachineParts {
  readonly ports: EnginePorts;
  readonly settings: EngineSettings;
  readonly pool: MachinePool | undefined;
  readonly folders: VmFolders;
}

export class VmMachines {
  readonly #host: MachineHost;
  readonly #ports: EnginePorts;
  readonly #settings: EngineSettings;
  readonly #pool: MachinePool | undefined;
  readonly #folders: VmFolders;

  constructor(host: MachineHost, { ports, settings, pool, folders }: MachineParts) {
    this.#host = host;
    this.#ports = ports;
    this.#settings = settings;
    this.#pool = pool;
    this.#folders = folders;
  }

  /** Whether that run is still about to begin: it may have been ended meanwhile. */
  isStarting(run: number): boolean {
    return this.#host.record.state.name === 'starting' && this.#host.record.run === run;
  }

  /** The quickest there is, with a guest that answers; undefined when the start is over. @throws why there is none */
  async obtain(build: QemuBuild, extents: readonly Extent[]): Promise<VmSession | undefined> {
    return (
      (await this.#pooled(build, extents)) ??
      (await this.#cloned(build, extents)) ??
      (await this.#booted(build, extents))
    );
  }

  /** A QEMU for a saved machine: a twin of one that waits for that, or one of its own. */
  async toFill(saved: SavedMachine): Promise<ObtainedToFill> {
    const { record } = this.#host;
    await this.#folders.prepareRun(record.uid, this.volumeDisks());
    const extents = await this.#folders.writeRootDescriptor(record, this.#ports);
    const network = record.network === undefined ? undefined : { ...record.network, tap: tapOf(record.id) };
    if (network !== undefined) this.#host.remember({ ...this.#host.record, network });
    const build = await this.#settings.build();
    const plan = this.#plan(build, extents, network, 'restored');
    const blank = await this.#pool?.blank(build, record.spec);
    try {
      const machine = await blank?.twin(plan, saved);
      if (machine !== undefined) return { machine, prepare: () => machine.attachDisks(plan.run) };
    } catch (error) {
      this.#ports.log(`VM ${record.name}: it wakes in a QEMU of its own: ${messageOf(error)}`);
      if (blank !== undefined) await this.#pool?.spoilt(blank);
      await this.#folders.prepareRun(record.uid, this.volumeDisks());
    }
    const run = { ...plan.run, startsPaused: true };
    const machine = await RunningMachine.launch({ ...plan, run, ...restoring(saved) });
    return { machine, prepare: async () => {} };
  }

  /** Address, names and published ports, unless an earlier try of this start has them already. */
  async #attached(options: { readonly tap?: string; readonly address?: string | undefined } = {}): Promise<Attached> {
    const { id, spec } = this.#host.record;
    const { network } = this.#ports;
    if (spec.network.mode !== 'bridge' || network === undefined) return undefined;
    const { ports, mac } = spec.network;
    const attached = await network.attach({ vmId: id, names: this.#host.names, ports, mac, ...options });
    this.#host.reached('queuedMs');
    return attached;
  }

  /** A machine that waited for this; undefined when there is none or it did not work out. */
  async #pooled(build: QemuBuild, extents: readonly Extent[]): Promise<VmSession | undefined> {
    const { spec, run } = this.#host.record;
    // A machine in the pool is plugged into the bridge, where a VM without a network may not be.
    const pooled = spec.network.mode === 'bridge' ? await this.#pool?.take(build, spec) : undefined;
    if (pooled === undefined) return undefined;
    const { machine, uid } = pooled;
    try {
      const network = await this.#attached({ tap: pooled.tap });
      for (const path of [this.#folders.dataDisk, ...this.volumeDisks()]) await files.chown(path, uid, uid);
      this.#host.remember({ ...this.#host.record, uid });
      const root = extents.length === 0 ? undefined : this.#folders.rootDescriptor;
      return await this.#settle(machine, 'pool', network, async (session) => {
        await machine.attachDisks({
          rootDescriptor: root,
          dataDisk: this.#folders.dataDisk,
          volumes: this.volumeDisks(),
        });
        await session.greetAgain(pooled.agent);
      });
    } catch (error) {
      await machine.kill();
      await this.#giveUp('a machine from the pool', run, error);
      await files.rm(machine.identity.folder, { recursive: true, force: true });
      return undefined;
    } finally {
      this.#pool?.forget(uid);
    }
  }

  /** From a template; undefined when there is none or it did not work out, and when this start is over. */
  async #cloned(build: QemuBuild, extents: readonly Extent[]): Promise<VmSession | undefined> {
    const { spec, run } = this.#host.record;
    const { templates } = this.#settings;
    if (!this.isStarting(run)) return undefined;
    const template = await templates?.obtain(build, { vcpus: spec.vcpus, memoryBytes: spec.memoryBytes });
    if (templates === undefined || template === undefined || !this.isStarting(run)) return undefined;
    const network = await this.#attached();
    try {
      const plan = this.#plan(build, extents, network, 'restored');
      const memory = { path: template.memory.path, sealed: true };
      const machine = await RunningMachine.launch({ ...plan, memory, stateFile: template.stateFile });
      const session = await this.#settle(machine, 'clone', network, (one) => one.greet(true));
      templates.cloneWorked(template);
      return session;
    } catch (error) {
      await this.#giveUp('a clone', run, error);
      await templates.cloneFailed(template);
      return undefined;
    }
  }

  async #booted(build: QemuBuild, extents: readonly Extent[]): Promise<VmSession | undefined> {
    if (!this.isStarting(this.#host.record.run)) return undefined;
    const network = await this.#attached();
    const machine = await RunningMachine.launch(this.#plan(build, extents, network, 'own'));
    return await this.#settle(machine, 'boot', network, (session) => session.greet(false));
  }

  /** From a machine that was put away, or is being put away. */
  async resume(build: QemuBuild, extents: readonly Extent[], source: RunSource): Promise<void> {
    await source.prepare?.();
    const network = await this.#attached({ address: source.address });
    const plan = this.#plan(build, extents, network, 'restored');
    const { machine, run, plugIn } = await source.obtain(plan);
    const session = await this.#settle(machine, source.origin, network, (one) => one.become(run));
    if (session !== undefined) {
      await session.goOn(plugIn);
      void this.letGoOfMemoryFile(machine);
    } else await this.#ports.network?.detach(this.#host.record.id);
  }

  /** What its guest frees is the host's again from then on. Never rejects: a VM that keeps its memory is still a VM. */
  async letGoOfMemoryFile(machine: RunningMachine): Promise<void> {
    const { twinProgram } = this.#settings;
    if (twinProgram === undefined || !machine.keepsMemoryFile) return;
    const trouble = await letGoOfMemoryFile(twinProgram, machine.identity);
    if (trouble !== undefined && (await machine.alive())) this.#ports.log(`VM ${this.#host.record.name}: ${trouble}`);
  }

  /** One way to a machine did not work out: nothing of it may be in the way of the next. @throws when the start is over */
  async #giveUp(way: string, run: number, error: unknown): Promise<void> {
    await this.#ports.network?.detach(this.#host.record.id);
    if (!this.isStarting(run)) throw error;
    this.#ports.log(`VM ${this.#host.record.name}: ${way} did not work out, it goes another way: ${messageOf(error)}`);
    this.#settings.counters.cloneFailures += 1;
    await this.#folders.prepareRun(this.#host.record.uid, this.volumeDisks());
  }

  #plan(build: QemuBuild, extents: readonly Extent[], network: Attached, memory: 'own' | 'restored'): LaunchPlan {
    const { id, spec, uid } = this.#host.record;
    return {
      launcher: this.#settings.launcher,
      build,
      identity: this.#settings.firstUid === undefined ? undefined : { uid, group: this.#settings.kvmGroup },
      plug: plugOf(id, network, this.#settings.firstUid !== undefined),
      folder: this.#folders.run,
      logFile: this.#folders.qemuLog,
      run: {
        name: `berth-${shortId(id)}`,
        vcpus: spec.vcpus,
        memoryBytes: spec.memoryBytes,
        memory,
        rootDescriptor: extents.length === 0 ? undefined : this.#folders.rootDescriptor,
        dataDisk: this.#folders.dataDisk,
        volumes: this.volumeDisks(),
      },
    };
  }

  /** A session whose guest answers; undefined when the VM was ended meanwhile. @throws why there is none */
  async #settle(
    machine: RunningMachine,
    way: 'pool' | 'clone' | 'boot' | RunSource['origin'],
    network: Attached,
    greet: (session: VmSession) => Promise<void>,
  ): Promise<VmSession | undefined> {
    const { run } = this.#host.record;
    if (!this.isStarting(run)) {
      // Killed or removed in the meantime; its tear-down could not know of this QEMU.
      await machine.kill();
      return undefined;
    }
    const session = this.#host.newSession(machine);
    this.#host.settled(session, way, network);
    try {
      await greet(session);
    } catch (error) {
      await session.end();
      this.#host.unsettled(session);
      throw error;
    }
    if (way === 'pool' || way === 'clone' || way === 'boot') this.#settings.counters[way] += 1;
    return session;
  }

  /** In the order of the slots. @throws volume.not_found (not_found) */
  volumeDisks(): string[] {
    return (this.#host.record.spec.volumes ?? []).map(({ volume }) => this.#ports.volumes.diskOf(volume));
  }
}

type Attached = NetworkAttachment | undefined;

function tapOf(id: string): string {
  return `bt${shortId(id)}`;
}

/** A VM without a network has a card too, plugged into nothing. */
function plugOf(id: string, network: Attached, isRoot: boolean): NetworkPlug {
  if (network?.kind === 'bridge') return { kind: 'tap', tap: network.tap, bridge: network.bridge };
  if (isRoot) return { kind: 'tap', tap: tapOf(id), bridge: undefined };
  return {
    kind: 'user',
    isolated: network === undefined,
    address: network?.address ?? '',
    ports: network?.ports ?? [],
  };
}
