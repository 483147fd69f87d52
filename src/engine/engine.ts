/**
 * All VMs of one daemon: makes them, finds them by name or id, and takes over what an earlier daemon left.
 */
import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import { BerthError, GIB, messageOf, parseVmId, shortId, type VmId } from '#base';
import { files, findProcesses, isAlive, killAndWait, nowMs } from '#platform';
import { Checkpoints } from './checkpoints.ts';
import { writeEmpty } from './empty-file.ts';
import type { Exec } from './exec.ts';
import { type ForkOutcome, type ForkRequest, forkNames, forkVm } from './fork.ts';
import { IdleWatch } from './idle-watch.ts';
import { hasMachine, isUp } from './lifecycle.ts';
import { MachinePool } from './machine-pool.ts';
import type { RunOrigin, VmRecord, VmSpec } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import { Vm } from './vm.ts';

/** One uid per VM out of this many; Linux leaves the range from 1,600,000,000 alone (systemd's dynamic and user ranges end below). */
const UID_COUNT = 100_000;
/** As of a VM with no wishes: mkfs then runs once for both. */
const REHEARSAL_DISK_BYTES = 10 * GIB;
/** Machines that wait where a twin takes 10 ms: as many as may be started in one breath. */
const READY_TWINS = 8;
/** VMs taken over at once when a daemon starts. */
const ADOPT_AT_ONCE = 16;

type MakeDisk = Parameters<Vm['prepare']>[0];

export const NAME_PATTERN = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

export class Engine {
  readonly #ports: EnginePorts;
  readonly #settings: EngineSettings;
  readonly #vms = new Map<VmId, Vm>();
  readonly #pool: MachinePool | undefined;
  #idleWatch: IdleWatch | undefined;
  readonly checkpoints: Checkpoints;

  constructor(ports: EnginePorts, settings: EngineSettings) {
    this.#ports = ports;
    this.#settings = settings;
    this.#pool = this.#openPool();
    this.checkpoints = new Checkpoints(ports, settings, (name, spec) => this.create(name, spec));
  }

  #openPool(): MachinePool | undefined {
    const { templates, poolSize, launcher, twinProgram, kvmGroup, build, rehearsal, firstUid } = this.#settings;
    const bridge = this.#ports.network?.bridge;
    // Without a bridge a machine's ports are part of its command line: it cannot wait for a VM.
    if (templates === undefined || poolSize === 0 || bridge === undefined || firstUid === undefined) return undefined;
    return new MachinePool({
      folder: `${this.#settings.runFolder}/vm`,
      launcher,
      twinProgram,
      most: poolSize,
      mostTwins: Math.min(poolSize, READY_TWINS),
      kvmGroup,
      templates,
      build,
      bridge,
      rehearsal: async () => {
        const found = await rehearsal();
        if (found === undefined) return undefined;
        return { ...found, makeDisk: (path, uid) => this.#ports.disks.create(path, REHEARSAL_DISK_BYTES, uid) };
      },
      freeUid: () => this.#freeUid(),
      log: (line) => this.#ports.log(line),
    });
  }

  /** Loads the records, takes over living VMs, and removes what belongs to none: processes, sockets and folders. */
  async open(): Promise<void> {
    await files.mkdir(`${this.#settings.stateFolder}/vms`, { recursive: true, mode: 0o711 });
    await files.mkdir(`${this.#settings.runFolder}/vm`, { recursive: true, mode: 0o711 });
    for (const record of this.#ports.records.loadAll()) this.#add(record);
    // A program that makes a twin names the folders of two machines, and is none: it ends by itself.
    const processes = (await findProcesses(`${this.#settings.runFolder}/vm/`)).filter(
      ({ argv }) => argv[0] !== this.#settings.twinProgram,
    );
    const machineOf = (vm: Vm) =>
      processes.find((found) => found.argv.some((word) => word.includes(`${vm.runFolder}/qmp`)));
    const waiting = [...this.#vms.values()];
    const adoptNext = async (): Promise<void> => {
      for (let vm = waiting.pop(); vm !== undefined; vm = waiting.pop()) {
        const known = vm.record.machine;
        const found = machineOf(vm);
        const alive = known !== undefined && (await isAlive(known)) ? known : undefined;
        const machine =
          alive ??
          (found === undefined
            ? undefined
            : {
                pid: found.pid,
                startTicks: found.startTicks,
                accelerator: known?.accelerator ?? 'unknown',
                folder: vm.runFolder,
              });
        await vm.adopt(machine);
      }
    };
    await Promise.all(Array.from({ length: ADOPT_AT_ONCE }, adoptNext));
    for (const stray of processes) {
      const owner = [...this.#vms.values()].find((vm) => stray.argv.some((word) => word.includes(`${vm.runFolder}/`)));
      // A VM that by its record has no machine: the daemon died before it could store that it started one.
      if (owner !== undefined && hasMachine(owner.record.state)) continue;
      this.#ports.log(
        `ending process ${stray.pid}, which runs for a VM ${owner === undefined ? 'nobody knows' : 'that is not running'}`,
      );
      await killAndWait(stray);
    }
    await this.#sweepFolders();
    this.#pool?.fillWhenQuiet();
    this.#idleWatch = new IdleWatch(
      () => this.#vms.values(),
      (line) => this.#ports.log(line),
    );
  }

  /** Machines of the pool that no VM has taken yet. */
  get waitingMachines(): number {
    return this.#pool?.size ?? 0;
  }

  /** Sizes of which any number of machines can be had at once. */
  get moulds(): number {
    return this.#pool?.mouldCount ?? 0;
  }

  /** By full id alone. */
  get(id: string): Vm | undefined {
    return this.#vms.get(id as VmId);
  }

  /** VMs that want the volume, whether they run or not. */
  usersOf(volume: string): Vm[] {
    return [...this.#vms.values()].filter(({ record }) => record.spec.volumes?.some((one) => one.volume === volume));
  }

  list(): readonly Vm[] {
    return [...this.#vms.values()];
  }

  /**
   * By full id, name (with or without a leading slash), or unambiguous id prefix.
   *
   * @throws vm.not_found (not_found), vm.ambiguous (invalid).
   */
  find(reference: string): Vm {
    const exact = this.#vms.get(reference as VmId);
    if (exact !== undefined) return exact;
    const name = reference.replace(/^\//, '');
    for (const vm of this.#vms.values()) if (vm.record.name === name) return vm;
    if (/^[0-9a-f]+$/.test(reference)) {
      const matching = [...this.#vms.values()].filter((vm) => vm.record.id.startsWith(reference));
      if (matching.length > 1) {
        throw new BerthError('invalid', 'vm.ambiguous', `multiple IDs found with provided prefix: ${reference}`);
      }
      if (matching[0] !== undefined) return matching[0];
    }
    throw new BerthError('not_found', 'vm.not_found', `No such container: ${reference}`);
  }

  /**
   * Makes a VM with its disks. It does not run yet.
   *
   * @throws vm.name_taken (conflict), vm.bad_name (invalid), disk.full (exhausted), image.not_found (not_found).
   */
  async create(name: string, spec: VmSpec): Promise<Vm> {
    return await this.#make(name, spec, (path, bytes, uid) => this.#ports.disks.create(path, bytes, uid));
  }

  /**
   * Makes running VMs that go on from where `parent` is now; it goes on as well.
   *
   * @throws fork.*, vm.* (conflict, invalid); why none of them runs. One that failed is named beside those that run.
   */
  async fork(parent: Vm, request: ForkRequest): Promise<ForkOutcome> {
    const names = forkNames(parent.record.name, request, new Set(this.list().map((vm) => vm.record.name)));
    for (const name of names) this.#checkName(name);
    await parent.awake();
    return await forkVm(parent, names, {
      memoryProgram: this.#settings.memoryProgram,
      twinProgram: this.#settings.twinProgram,
      log: this.#ports.log,
      make: (name, spec) => this.#make(name, spec, writeEmpty, 'fork'),
    });
  }

  async #make(name: string, spec: VmSpec, makeDisk: MakeDisk, origin?: RunOrigin): Promise<Vm> {
    this.#checkName(name);
    const record: VmRecord = {
      version: 1,
      id: parseVmId(randomBytes(32).toString('hex')),
      name,
      spec,
      createdAtMs: nowMs(),
      uid: this.#freeUid(),
      state: { name: 'created', failure: undefined },
      removal: 'none',
      run: 0,
      startedAtMs: undefined,
      machine: undefined,
      network: undefined,
      boot: {},
      ...(origin === undefined ? {} : { origin }),
    };
    const vm = this.#add(
      spec.hostname === '' ? { ...record, spec: { ...spec, hostname: shortId(record.id) } } : record,
    );
    try {
      await vm.prepare(makeDisk);
      this.#ports.records.save(vm.record);
    } catch (error) {
      this.#vms.delete(record.id);
      await files.rm(vm.folder, { recursive: true, force: true });
      throw error;
    }
    this.#ports.onHappening({ action: 'create', vm: vm.record, attributes: {}, timeMs: nowMs() });
    return vm;
  }

  /** @throws vm.name_taken (conflict), vm.bad_name (invalid) */
  rename(vm: Vm, name: string): void {
    this.#checkName(name);
    vm.rename(name);
  }

  /** @throws exec.not_found (not_found) */
  findExec(id: string): { readonly vm: Vm; readonly exec: Exec } {
    for (const vm of this.#vms.values()) {
      const exec = vm.execs.get(id);
      if (exec !== undefined) return { vm, exec };
    }
    throw new BerthError('not_found', 'exec.not_found', `No such exec instance: ${id}`);
  }

  /** Lets go of all VMs; they run on. */
  async close(): Promise<void> {
    await this.#idleWatch?.close();
    for (const vm of this.#vms.values()) await vm.release();
    await this.#pool?.close();
  }

  #add(record: VmRecord): Vm {
    const vm = new Vm(record, this.#ports, this.#settings, this.#pool, {
      onGone: (gone) => this.#vms.delete(gone.record.id),
      ownerOf: (volume) => this.usersOf(volume).find((one) => isUp(one.record.state)),
    });
    this.#vms.set(record.id, vm);
    return vm;
  }

  #checkName(name: string): void {
    if (!NAME_PATTERN.test(name)) {
      throw new BerthError(
        'invalid',
        'vm.bad_name',
        `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
      );
    }
    for (const vm of this.#vms.values()) {
      if (vm.record.name !== name) continue;
      const text = `Conflict. The container name "/${name}" is already in use by container "${vm.record.id}". You have to remove (or rename) that container to be able to reuse that name.`;
      throw new BerthError('conflict', 'vm.name_taken', text);
    }
  }

  #freeUid(): number {
    const first = this.#settings.firstUid;
    if (first === undefined) return 0;
    const used = new Set([...this.#vms.values()].map((vm) => vm.record.uid).concat(...(this.#pool?.uids ?? [])));
    for (let uid = first; uid < first + UID_COUNT; uid += 1) if (!used.has(uid)) return uid;
    throw new BerthError('exhausted', 'vm.no_uid', `all ${UID_COUNT} user ids for VMs are in use`);
  }

  async #sweepFolders(): Promise<void> {
    const ids = new Set([...this.#vms.keys()].map(String));
    const runFolders = new Set([...this.#vms.values()].map((vm) => basename(vm.runFolder)));
    const sweep = async (folder: string, known: ReadonlySet<string>): Promise<void> => {
      for (const name of await files.readdir(folder)) {
        if (known.has(name)) continue;
        this.#ports.log(`removing ${folder}/${name}, which belongs to no VM`);
        await files
          .rm(`${folder}/${name}`, { recursive: true, force: true })
          .catch((error: unknown) => this.#ports.log(messageOf(error)));
      }
    };
    await sweep(`${this.#settings.stateFolder}/vms`, ids);
    await sweep(`${this.#settings.runFolder}/vm`, runFolders);
  }
}
