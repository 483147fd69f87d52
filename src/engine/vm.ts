/**
 * The doer of one VM: takes requests and tidings, asks lifecycle.ts what they mean, stores the answer, then does it.
 *
 * Order of things for every event: decide, store, carry out the effects. So a daemon that dies between two of them
 * finds in the store what it was about to do. Effects run one at a time and report back as events.
 */
import { BerthError, messageOf, shortId } from '#base';
import { files, monotonicMs, nowMs, sleep, startTimer, type Timer } from '#platform';
import type { Exec, ExecSpec } from './exec.ts';
import { ExecTable } from './exec-table.ts';
import type { GuestLink } from './guest-link.ts';
import { HeldCallers } from './held-callers.ts';
import { decide, hasMachine, isUp, type VmEffect, type VmEvent } from './lifecycle.ts';
import { RunningMachine } from './machine.ts';
import type { MachinePool } from './machine-pool.ts';
import type { BootStage, BootTimings, ExitFacts, Machine, TerminalSize, VmRecord } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import { ProcessLog } from './process-log.ts';
import type { RunSource } from './run-source.ts';
import { VmFolders } from './vm-folders.ts';
import { type MachineHost, VmMachines } from './vm-machines.ts';
import { VmMilestones, type WaitCondition, type WaitOutcome } from './vm-milestones.ts';
import { type FreezeOptions, killed, MAIN_PROCESS, type SessionHost, VmSession } from './vm-session.ts';
import { putToSleep, type SleepHost, wakeUp } from './vm-sleep.ts';
import {
  GLANCE_MS,
  guestUsedBytes,
  type HostMemory,
  memoryOf,
  type UsageSources,
  usageOf,
  type VmUsage,
  within,
} from './vm-usage.ts';

/** A daemon that starts waits so long for one VM to answer; after that it serves, and goes on asking. */
const ADOPT_PATIENCE_MS = 5_000;
/** Between two tries to take over a VM that does not answer. */
const ADOPT_AGAIN_MS = 2_000;
/** A guest that serves who woke it is left alone for so long: it translates for 60 ms before its first answer. */
const GREETED_LATEST_MS = 150;
/** Of the guest's own memory figure in `inspect`. */
const GLANCE_AGE_MS = 5_000;
/** Between two tries to store a state on a full disk. */
const STORE_RETRY_MS = 1_000;

/** What a VM has to do with the others. */
export interface VmNeighbours {
  onGone(vm: Vm): void;
  /** The VM that is up and has the volume. */
  ownerOf(volume: string): Vm | undefined;
}

export class Vm {
  #record: VmRecord;
  readonly #ports: EnginePorts;
  readonly #settings: EngineSettings;
  readonly #pool: MachinePool | undefined;
  readonly #onGone: (vm: Vm) => void;
  readonly #ownerOf: (volume: string) => Vm | undefined;
  readonly #milestones = new VmMilestones();
  readonly #folders: VmFolders;
  readonly #machines: VmMachines;
  #log: Promise<ProcessLog> | undefined;
  #session: VmSession | undefined;
  /** Settled once nothing of the last boot is under way; never rejects. */
  #booting: Promise<void> = Promise.resolve();
  readonly execs = new ExecTable();
  #effects: Promise<void> = Promise.resolve();
  /** What the start under way goes on from. */
  #source: RunSource | undefined;
  /** Copies of the machine are taken one after the other. */
  #copying: Promise<unknown> = Promise.resolve();
  #restarting = false;
  #startedAtMonotonicMs = 0;
  #lastError: BerthError | undefined;
  #storeRetry: Timer | undefined;
  #gone = false;
  /** A fall asleep or a wake that is under way. */
  #transit: Promise<void> | undefined;
  #afterwards: Promise<void> = Promise.resolve();
  readonly #callers = new HeldCallers();
  /** Aborted when the VM no longer starts: it leaves the queue. */
  #waiting = new AbortController();
  /** What the guest said last of its memory to those who asked in passing. */
  #glance: { readonly atMs: number; readonly guestUsed: Promise<number | undefined> } | undefined;
  #touchedAtMs = monotonicMs();

  constructor(
    record: VmRecord,
    ports: EnginePorts,
    settings: EngineSettings,
    pool: MachinePool | undefined,
    neighbours: VmNeighbours,
  ) {
    this.#record = record;
    this.#ports = ports;
    this.#settings = settings;
    this.#pool = pool;
    this.#onGone = neighbours.onGone;
    this.#ownerOf = neighbours.ownerOf;
    this.#folders = new VmFolders(record.id, settings);
    this.#machines = new VmMachines(this.#machineHost(), { ports, settings, pool, folders: this.#folders });
  }

  get record(): VmRecord {
    return this.#record;
  }

  get folder(): string {
    return this.#folders.state;
  }

  /** Where its machine's sockets are. */
  get runFolder(): string {
    return this.#record.machine?.folder ?? this.#folders.run;
  }

  get logPath(): string {
    return this.#folders.processLog;
  }

  /** The VM's writable disk, a sparse file. */
  get diskPath(): string {
    return this.#folders.dataDisk;
  }

  /** Makes the VM's folder and disks. @throws disk.full (exhausted), image.not_found (not_found) */
  prepare(makeDisk: (path: string, bytes: number, uid: number | undefined) => Promise<void>): Promise<void> {
    return this.#folders.prepare(this.#record, this.#ports, makeDisk);
  }

  /** Resolves when the main process runs. @throws what decide refuses; why the start failed. */
  async start(): Promise<void> {
    if (isAsleep(this.#record.state)) await this.awake();
    if (!isUp(this.#record.state)) this.#requireVolumes();
    this.#apply({ type: 'start' });
    await this.#milestones.untilStarted();
  }

  /** As `start`, but goes on from a machine that was put away. @throws what decide refuses; why it failed. */
  async startFrom(source: RunSource): Promise<void> {
    this.#apply({ type: 'start', origin: source.origin });
    this.#source = source;
    await this.#milestones.untilStarted();
  }

  /**
   * Runs `work` while the guest's processes are frozen; `work` stops the machine. Both go on afterwards, whatever became of
   * it; with `end` the VM ends instead, when `work` went well. That it is under way is stored first: when the daemon dies, the
   * next one lets them go on.
   *
   * @throws vm.not_running, vm.paused (conflict); guest.freeze (unavailable); what `work` throws.
   */
  async whileFrozen(options: FreezeOptions, work: (machine: RunningMachine) => Promise<void>): Promise<void> {
    const turn = this.#copying.then(async () => {
      this.link();
      const ended = options.end ? this.#milestones.untilEnded() : undefined;
      this.#save({ ...this.#record, frozen: true });
      try {
        await this.#running().whileFrozen(options, work);
        if (ended === undefined) return;
        await this.#session?.killProcess(ended);
        await ended;
      } finally {
        this.#save({ ...this.#record, frozen: undefined });
      }
    });
    this.#copying = turn.catch(() => {});
    await turn;
  }

  /** Ends the main process politely, then not. Resolves when the VM is down. A VM that is down is vm.not_running (not_modified). */
  async stop(options: { readonly signal?: number; readonly timeoutSeconds?: number } = {}): Promise<void> {
    const { spec, state, name } = this.#record;
    if (!isUp(state)) throw new BerthError('not_modified', 'vm.not_running', `VM ${name} is not running`);
    await this.awake();
    const ended = this.#milestones.untilEnded();
    if (state.name === 'paused') await this.unpause();
    const timeoutMs = (options.timeoutSeconds ?? spec.stopTimeoutSeconds) * 1000;
    const session = this.#session;
    if (session?.link !== undefined) {
      this.#happened('kill', { signal: String(options.signal ?? spec.stopSignal) });
      session.link.signal(MAIN_PROCESS, options.signal ?? spec.stopSignal);
      const graceful =
        timeoutMs < 0
          ? ended.then(() => true)
          : Promise.race([ended.then(() => true), sleep(timeoutMs).then(() => false)]);
      if (!(await graceful)) await session.killProcess(ended);
    } else {
      await this.#killMachine();
    }
    await ended;
    this.#happened('stop', {});
  }

  /** @throws vm.not_running (conflict) */
  async kill(signal: number): Promise<void> {
    const { state, name } = this.#record;
    if (signal !== 9 && isAsleep(state)) await this.awake();
    else if (state.name !== 'running' && state.name !== 'paused' && !isAsleep(state)) {
      throw new BerthError(
        'conflict',
        'vm.not_running',
        `cannot kill container: ${name}: container ${shortId(this.#record.id)} is not running`,
      );
    }
    this.#happened('kill', { signal: String(signal) });
    if (signal !== 9) {
      this.#session?.link?.signal(MAIN_PROCESS, signal);
      return;
    }
    const ended = this.#milestones.untilEnded();
    if (state.name === 'paused' || isAsleep(state)) await this.#killMachine();
    else await this.#session?.killProcess(ended);
    await ended;
  }

  async restart(options: { readonly signal?: number; readonly timeoutSeconds?: number }): Promise<void> {
    this.#restarting = true;
    try {
      if (isUp(this.#record.state)) await this.stop(options);
    } finally {
      this.#restarting = false;
    }
    await this.start();
    this.#happened('restart', {});
  }

  /** @throws vm.not_running, vm.already_paused (conflict); vm.unresponsive (timeout) */
  async pause(): Promise<void> {
    await this.awake();
    await this.#copying;
    const { state, name } = this.#record;
    if (state.name === 'paused')
      throw new BerthError('conflict', 'vm.already_paused', `Container ${name} is already paused`);
    if (state.name !== 'running')
      throw new BerthError('conflict', 'vm.not_running', `Container ${name} is not running`);
    await this.#running().control('stop');
    this.#apply({ type: 'paused' });
    this.#happened('pause', {});
  }

  /** @throws vm.not_paused (conflict); vm.unresponsive (timeout) */
  async unpause(): Promise<void> {
    if (this.#record.state.name !== 'paused') {
      throw new BerthError('conflict', 'vm.not_paused', `Container ${this.#record.name} is not paused`);
    }
    await this.#running().control('cont');
    this.#apply({ type: 'unpaused' });
    this.#happened('unpause', {});
  }

  /** Resolves when nothing of the VM is left. */
  async remove(options: { readonly force: boolean }): Promise<void> {
    const removed = this.#milestones.untilRemoved();
    // A refusal must not leave the promise above without an owner.
    removed.catch(() => {});
    this.#apply({ type: 'remove', force: options.force });
    await removed;
  }

  rename(name: string): void {
    const oldName = this.#record.name;
    this.#save({ ...this.#record, name });
    this.#ports.network?.rename(this.#record.id, this.#names());
    this.#happened('rename', { oldName: `/${oldName}` });
  }

  /** Settles with the exit code. For a VM that was never started, `not-running` settles at once with 0, as Docker does. */
  async wait(condition: WaitCondition, signal: AbortSignal): Promise<WaitOutcome> {
    const { state } = this.#record;
    if (condition === 'not-running' && !isUp(state)) return exitOf(state);
    return await this.#milestones.untilOver(condition, exitOf(state), signal);
  }

  /** Tells those who watch that something was done with it. */
  announce(action: string, attributes: Readonly<Record<string, string>>): void {
    this.#happened(action, attributes);
  }

  /** The main process's log; opened once, closed with the VM. */
  log(): Promise<ProcessLog> {
    this.#log ??= ProcessLog.open(this.logPath);
    return this.#log;
  }

  /** Writes the machine out and ends it; see vm-sleep.ts for what it throws. */
  sleep(): Promise<void> {
    this.#touchedAtMs = monotonicMs();
    return this.#inTransit(async () => {
      await this.#copying;
      await putToSleep(this.#sleepHost());
    });
  }

  /** Resolves when the VM does not sleep: it is woken if need be, once however many ask. @throws why it cannot be woken */
  async awake(): Promise<void> {
    if (this.#transit !== undefined || isAsleep(this.#record.state)) this.#callers.hurry();
    await this.#wake();
  }

  async #wake(): Promise<void> {
    this.#touchedAtMs = monotonicMs();
    while (this.#transit !== undefined) await this.#transit.catch(() => {});
    if (this.#record.state.name !== 'asleep') return;
    await this.#inTransit(async () => {
      // In turn with starts: many that wake at once would all be slow.
      const leave = await this.#settings.gate.enter(new AbortController().signal);
      try {
        await wakeUp(this.#sleepHost());
        if (this.#session !== undefined) void this.#machines.letGoOfMemoryFile(this.#session.machine);
      } finally {
        leave();
        this.#callers.over();
      }
    });
  }

  /** A command of `exec` runs, or the machine is being put away. */
  get isBusy(): boolean {
    return this.#transit !== undefined || this.execs.values().some((exec) => exec.state.name === 'running');
  }

  /** Monotonic milliseconds of the last request that needed the guest, sleep or wake. */
  get touchedAtMs(): number {
    return this.#touchedAtMs;
  }

  /**
   * As `awake`, but resolves as soon as the machine runs: its network answers before its guest program does.
   *
   * @returns to be called when the guest has answered, or nobody waits for it any more.
   */
  async #untilRunning(): Promise<() => void> {
    const served = this.#callers.enter();
    try {
      if (this.#transit !== undefined || isAsleep(this.#record.state))
        await Promise.race([this.#milestones.untilWoken(), this.#wake()]);
      return served;
    } catch (error) {
      served();
      throw error;
    }
  }

  /** One at a time; whoever comes later waits for the same. */
  async #inTransit(work: () => Promise<void>): Promise<void> {
    while (this.#transit !== undefined) await this.#transit.catch(() => {});
    const transit = this.#afterwards.then(work).finally(() => {
      this.#transit = undefined;
      this.#touchedAtMs = monotonicMs();
    });
    transit.catch(() => {});
    this.#transit = transit;
    await transit;
  }

  #machineHost(): MachineHost {
    const vm = this;
    return {
      get record() {
        return vm.#record;
      },
      get names() {
        return vm.#names();
      },
      remember: (record) => {
        this.#record = record;
      },
      reached: (stage) => this.#mark(stage),
      newSession: (machine) => new VmSession(machine, this.#host()),
      settled: (session, way, network) => {
        this.#session = session;
        const boot = this.#timed({ ...this.#record.boot, way }, 'spawnedMs');
        this.#save({ ...this.#record, machine: session.machine.identity, network, boot });
      },
      unsettled: (session) => {
        if (this.#session === session) this.#session = undefined;
      },
    };
  }

  #sleepHost(): SleepHost {
    const vm = this;
    return {
      get record() {
        return vm.#record;
      },
      get session() {
        return vm.#session;
      },
      get hasExecs() {
        return vm.execs.values().some((exec) => exec.state.name === 'running');
      },
      ports: this.#ports,
      memoryProgram: this.#settings.memoryProgram,
      folder: this.#folders.sleep,
      apply: (event) => this.#apply(event),
      setTransit: (transit) => this.#save({ ...this.#record, transit }),
      setSession: (session) => {
        this.#session = session;
        this.#record = { ...this.#record, machine: session?.machine.identity };
      },
      newSession: (machine) => new VmSession(machine, this.#host()),
      obtain: (saved) => this.#machines.toFill(saved),
      wake: () => this.#untilRunning(),
      untilServed: () => this.#callers.untilServed(GREETED_LATEST_MS),
      runs: () => this.#milestones.woke(),
      afterwards: (work) => {
        this.#afterwards = work().catch((error: unknown) =>
          this.#ports.log(`VM ${this.#record.name}: ${messageOf(error)}`),
        );
      },
      quieten: async () => {
        const log = await this.#log;
        if (log === undefined || log.isFollowed) return;
        this.#log = undefined;
        await log.settled();
        await log.close();
      },
      takeOver: () => {
        const { machine } = this.#record;
        this.#session?.release();
        if (machine !== undefined) void this.#takeOver(machine);
      },
      happened: (action) => this.#happened(action, {}),
    };
  }

  /** What the VM takes right now; undefined when it has no machine. */
  async usage(): Promise<VmUsage | undefined> {
    const sources = this.#usageSources();
    return sources === undefined ? undefined : await usageOf(sources);
  }

  /** The same without asking the guest, which would keep it awake: for those who ask all the time. */
  async usageFromOutside(): Promise<VmUsage | undefined> {
    const sources = this.#usageSources();
    return sources === undefined ? undefined : await usageOf({ ...sources, link: undefined });
  }

  /** The part of `usage` that says where its memory is. */
  async memory(): Promise<{ readonly guestUsedBytes: number | undefined; readonly host: HostMemory | undefined }> {
    const { machine, link } = this.#usageSources() ?? {};
    if (machine === undefined) return { guestUsedBytes: undefined, host: undefined };
    // Whoever inspects ten times a second must not keep the guest awake: its own figure is a few seconds old then.
    if (link !== undefined && (this.#glance === undefined || monotonicMs() - this.#glance.atMs > GLANCE_AGE_MS))
      this.#glance = { atMs: monotonicMs(), guestUsed: guestUsedBytes(link, GLANCE_AGE_MS) };
    // Nor does he wait for a guest that is busy: its answer is for who comes after it has arrived.
    const guest = link === undefined || this.#glance === undefined ? undefined : this.#glance.guestUsed;
    const [guestUsed, host] = await Promise.all([guest && within(GLANCE_MS, guest), memoryOf(machine)]);
    return { guestUsedBytes: guestUsed, host };
  }

  #usageSources(): UsageSources | undefined {
    const { state, network, spec } = this.#record;
    const session = this.#session;
    if (session === undefined || (state.name !== 'running' && state.name !== 'paused')) return undefined;
    const answers = state.name === 'running' && session.isGreeted;
    const tap = network?.kind === 'bridge' ? network.tap : undefined;
    return {
      machine: session.machine,
      link: answers ? session.link : undefined,
      tap,
      volumes: spec.volumes?.length ?? 0,
    };
  }

  /** The channel to a running guest. @throws vm.not_running, vm.paused (conflict) */
  link(): GuestLink {
    const { state, name } = this.#record;
    if (state.name === 'paused') {
      throw new BerthError('conflict', 'vm.paused', `Container ${name} is paused, unpause the container before exec`);
    }
    const link = this.#session?.link;
    if (state.name !== 'running' || link === undefined) {
      throw new BerthError('conflict', 'vm.not_running', `Container ${this.#record.id} is not running`);
    }
    if (this.#session?.isGreeted !== true) {
      throw new BerthError('unavailable', 'vm.unresponsive', `VM ${name} has not answered this daemon yet`, {
        hint: 'try again; "inspect" shows what is wrong when that lasts',
      });
    }
    return link;
  }

  /** Bytes for the main process's standard input; resolves when the guest has room for more. */
  async writeStdin(data: Buffer): Promise<void> {
    await this.#untilLinked();
    await this.#session?.link?.writeStdin(MAIN_PROCESS, data);
  }

  async endStdin(): Promise<void> {
    await this.#untilLinked();
    this.#session?.link?.endStdin(MAIN_PROCESS);
  }

  resize(rows: number, columns: number): void {
    this.link().resize(MAIN_PROCESS, { rows, columns });
  }

  createExec(spec: ExecSpec): Exec {
    this.link();
    return this.execs.create(this.#record.id, spec);
  }

  /** @throws exec.already_started (conflict), process.* (invalid) when the guest cannot start it. */
  async startExec(exec: Exec, size: TerminalSize | undefined): Promise<void> {
    await this.#copying;
    const link = this.link();
    if (exec.state.name !== 'created') {
      throw new BerthError('conflict', 'exec.already_started', `exec ${exec.id} has already run`);
    }
    exec.state = { name: 'running', pid: 0 };
    try {
      const { pid } = await link.start(exec.channelId, exec.spec.process, size);
      // It may have ended already: tidings of that come by their own way.
      if ((exec.state as Exec['state']).name === 'running') exec.state = { name: 'running', pid };
    } catch (error) {
      exec.finish(error instanceof BerthError && error.code === 'process.not_found' ? 127 : 126);
      throw error;
    }
  }

  /**
   * Finds out what became of the VM while no daemon was there, and goes on from that.
   *
   * @param machine - its QEMU when one runs, found by pid and start time or by its command line.
   */
  async adopt(machine: VmRecord['machine']): Promise<void> {
    const { state, id, network } = this.#record;
    if (state.name === 'removing') {
      this.#enqueue('delete');
      return;
    }
    if (isAsleep(state)) {
      if (network !== undefined) await this.#ports.network?.restore(id, network, this.#names());
      if (machine !== undefined) await RunningMachine.adopt(machine, this.#logOf(machine)).kill();
      this.#apply({ type: 'wake_failed', error: 'the daemon ended while it woke' });
      await this.#ports.network?.hold(id, () => this.#untilRunning());
      return;
    }
    if (this.#record.origin !== undefined) {
      await this.#abandonCopy(machine);
      return;
    }
    if (!hasMachine(state)) return;
    if (network !== undefined) await this.#ports.network?.restore(id, network, this.#names());
    if (machine === undefined) {
      if (state.name === 'ending') {
        this.#enqueue('tear_down');
        return;
      }
      const error = 'QEMU ended while no berth daemon was running';
      this.#apply({ type: 'machine_gone', exit: { exitCode: 255, oomKilled: false, error, atMs: nowMs() } });
      return;
    }
    this.#save({ ...this.#record, machine });
    await Promise.race([this.#takeOver(machine), sleep(ADOPT_PATIENCE_MS)]);
  }

  /** A machine of which nobody knows how far it had become this VM is of no use. */
  async #abandonCopy(machine: VmRecord['machine']): Promise<void> {
    const { state, origin } = this.#record;
    if (machine !== undefined) await RunningMachine.adopt(machine, this.#logOf(machine)).kill();
    const error = 'the berth daemon ended before the VM went on';
    if (state.name === 'ending') this.#enqueue('tear_down');
    else if (hasMachine(state)) this.#apply({ type: 'machine_gone', exit: killed(error) });
    else if (origin === 'fork') this.#apply({ type: 'remove', force: true });
  }

  /** A QEMU or a guest that does not answer (stopped, on a busy host, hostile) is asked again; stop, kill and rm -f end it. */
  async #takeOver(machine: NonNullable<VmRecord['machine']>): Promise<void> {
    const session = new VmSession(RunningMachine.adopt(machine, this.#logOf(machine)), this.#host());
    this.#session = session;
    try {
      await session.rejoin();
      if (this.#record.transit !== undefined) {
        this.#save({ ...this.#record, transit: undefined });
        await files.rm(this.#folders.sleep, { recursive: true, force: true });
      }
      this.#lastError = undefined;
    } catch (error) {
      if (this.#gone || this.#session !== session || !hasMachine(this.#record.state)) return;
      if (error instanceof BerthError && error.code === 'vm.half_started') {
        // Nothing of the VM has run yet: the start begins anew.
        this.#session = undefined;
        await session.end();
        this.#ports.log(`VM ${this.#record.name}: its start begins anew: ${error.message}`);
        await this.#ports.network?.detach(this.#record.id);
        this.#enqueue('boot');
        return;
      }
      const why = `it could not be taken over: ${messageOf(error)}; ${await session.machine.describeSilence()}`;
      this.#ports.log(`VM ${this.#record.name}: ${why}`);
      this.#lastError = new BerthError('timeout', 'vm.unresponsive', why);
      if (this.#record.state.name === 'ending') {
        this.#enqueue('tear_down');
        return;
      }
      session.release();
      await sleep(ADOPT_AGAIN_MS);
      if (!this.#gone && this.#session === session && hasMachine(this.#record.state)) await this.#takeOver(machine);
    }
  }

  /** Why the VM cannot be talked to right now; empty when it can. */
  get trouble(): string {
    return this.#lastError?.message ?? '';
  }

  /** Lets go of everything without ending anything: berthd is leaving. */
  async release(): Promise<void> {
    this.#gone = true;
    this.#storeRetry?.cancel();
    this.#session?.release();
    const log = await this.#log;
    await log?.settled();
  }

  /** A machine from the pool wrote its words where it waited. */
  #logOf(machine: Machine): string {
    return machine.folder === this.#folders.run ? this.#folders.qemuLog : `${machine.folder}/qemu.log`;
  }

  /** Resolves when all effects queued so far have run. */
  async settled(): Promise<void> {
    await this.#effects;
  }

  #names(): string[] {
    return [...new Set([this.#record.name, this.#record.spec.hostname, shortId(this.#record.id)])];
  }

  /**
   * What happened has happened, whether or not it can be written down: on a full disk the state goes on in memory and
   * the write is tried again. A daemon that dies before that finds the machine by its command line.
   */
  #save(record: VmRecord): void {
    this.#record = record;
    this.#store();
  }

  #store(): void {
    try {
      this.#ports.records.save(this.#record);
    } catch (error) {
      this.#ports.log(`VM ${this.#record.name}: its state cannot be stored now: ${messageOf(error)}`);
      if (this.#storeRetry === undefined) {
        this.#storeRetry = startTimer(STORE_RETRY_MS, () => {
          this.#storeRetry = undefined;
          if (!this.#gone) this.#store();
        });
      }
    }
  }

  #apply(event: VmEvent): void {
    const before = this.#record;
    const decision = decide(before, event, nowMs());
    if (decision.record !== before) this.#save(decision.record);
    for (const effect of decision.effects) this.#enqueue(effect);
    const { state } = this.#record;
    if (state.name !== 'starting') this.#waiting.abort();
    if (event.type === 'process_started' && state.name === 'running') this.#milestones.started();
    if (event.type === 'torn_down' && before.state.name === 'ending') {
      const { exit } = before.state;
      if (before.startedAtMs !== undefined) this.#milestones.exited(exit);
      else this.#milestones.startFailed(this.#lastError ?? failureOf(exit), exit);
    }
  }

  #enqueue(effect: VmEffect): void {
    this.#effects = this.#effects
      .then(() => this.#carryOut(effect))
      .catch((error: unknown) => this.#ports.log(`VM ${this.#record.name}: ${effect}: ${messageOf(error)}`));
  }

  async #carryOut(effect: VmEffect): Promise<void> {
    switch (effect) {
      case 'boot':
        // Not awaited: a boot must not keep a kill waiting behind it.
        this.#booting = this.#boot().catch((error: unknown) => this.#startFailed(error));
        return;
      case 'announce_start':
        this.#happened('start', {});
        return;
      case 'announce_die': {
        const { state } = this.#record;
        const exit = state.name === 'ending' ? state.exit : undefined;
        if (exit?.oomKilled === true) this.#happened('oom', {});
        this.#happened('die', { exitCode: String(exit?.exitCode ?? 0) });
        return;
      }
      case 'finish':
        await this.#session?.finish(this.#keepsDisk());
        await this.#tearDown();
        return;
      case 'tear_down':
        await this.#tearDown();
        return;
      case 'kill_machine':
        await this.#killMachine();
        return;
      case 'delete':
        await this.#delete();
        return;
    }
  }

  async #boot(): Promise<void> {
    const { uid, spec, run } = this.#record;
    const source = this.#source;
    let leave: () => void = () => {};
    this.#waiting = new AbortController();
    this.#source = undefined;
    const shape = { vcpus: spec.vcpus, memoryBytes: spec.memoryBytes };
    const done = this.#pool?.busy(source === undefined ? shape : undefined);
    try {
      this.#startedAtMonotonicMs = monotonicMs();
      this.#lastError = undefined;
      (await this.log()).markStarted();
      const build = await this.#settings.build();
      await this.#folders.prepareRun(uid, this.#machines.volumeDisks());
      const extents = await this.#folders.writeRootDescriptor(this.#record, this.#ports);
      if (source !== undefined) {
        await this.#machines.resume(build, extents, source);
        return;
      }
      if (!this.#machines.isStarting(run)) this.#waiting.abort();
      leave = await this.#settings.gate.enter(this.#waiting.signal);
      const session = this.#machines.isStarting(run) ? await this.#machines.obtain(build, extents) : undefined;
      if (session !== undefined) {
        await session.begin(extents);
        void this.#machines.letGoOfMemoryFile(session.machine);
      } else await this.#ports.network?.detach(this.#record.id);
    } finally {
      leave();
      done?.();
    }
  }

  #startFailed(error: unknown): void {
    const failure =
      error instanceof BerthError
        ? error
        : new BerthError('bug', 'vm.start_failed', messageOf(error), { cause: error });
    this.#lastError = failure;
    const codes: Record<string, number> = { 'process.not_found': 127, 'process.not_executable': 126 };
    const exitCode = codes[failure.code] ?? 128;
    this.#apply({ type: 'start_failed', exit: { exitCode, oomKilled: false, error: failure.message, atMs: nowMs() } });
  }

  async #tearDown(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.end();
    // A boot that this end overtook gives up at its next step; what it made by then is taken away below.
    await this.#booting;
    this.execs.endAll(137);
    await this.#ports.network?.detach(this.#record.id);
    await this.#folders.removeRun();
    await files.rm(this.runFolder, { recursive: true, force: true });
    await files.rm(this.#folders.sleep, { recursive: true, force: true });
    const log = await this.log();
    await log.settled();
    log.markEnded();
    this.#apply({ type: 'torn_down', keep: this.#restarting });
  }

  async #delete(): Promise<void> {
    try {
      const log = await this.#log;
      this.#log = undefined;
      await log?.close();
      await this.#folders.remove();
    } catch (error) {
      this.#apply({ type: 'remove_failed', error: messageOf(error) });
      this.#milestones.removeFailed(`VM ${this.#record.name} could not be removed: ${messageOf(error)}`);
      return;
    }
    this.#gone = true;
    this.#storeRetry?.cancel();
    this.#ports.records.remove(this.#record.id);
    this.#onGone(this);
    this.#happened('destroy', {});
    this.#milestones.removed();
  }

  /** Ends QEMU at once; where none was launched yet, the start that was under way finds that out. */
  async #killMachine(): Promise<void> {
    if (this.#session === undefined) this.#apply({ type: 'machine_gone', exit: killed('') });
    else await this.#session.killMachine();
  }

  /** @throws vm.not_running (conflict) */
  #running(): VmSession {
    if (this.#session !== undefined) return this.#session;
    throw new BerthError('conflict', 'vm.not_running', `Container ${this.#record.name} is not running`);
  }

  /** Standard input may be written before the process runs: it waits for that, or for the end. */
  async #untilLinked(): Promise<void> {
    await this.awake();
    if (this.#record.state.name === 'running' && this.#session?.link !== undefined) return;
    await this.#milestones.untilStartedOrEnded();
  }

  /** @throws volume.not_found (not_found), volume.in_use (conflict): a file system has one machine that writes to it. */
  #requireVolumes(): void {
    for (const { volume } of this.#record.spec.volumes ?? []) {
      this.#ports.volumes.diskOf(volume);
      const owner = this.#ownerOf(volume);
      if (owner === undefined || owner === this) continue;
      const { name } = owner.record;
      throw new BerthError('conflict', 'volume.in_use', `volume ${volume} is in use by VM ${name}`, {
        hint: `a volume belongs to one running VM at a time: "berth stop ${name}" gives it back`,
      });
    }
  }

  /** Whether anybody will see this disk, or a volume, again. */
  #keepsDisk(): boolean {
    if ((this.#record.spec.volumes ?? []).some(({ readOnly }) => !readOnly)) return true;
    const goesAway = this.#record.spec.autoRemove && !this.#restarting;
    return !goesAway && this.#record.removal === 'none';
  }

  #host(): SessionHost {
    const vm = this;
    return {
      get record() {
        return vm.#record;
      },
      execs: this.execs,
      log: () => this.log(),
      layers: () => this.#folders.writeRootDescriptor(this.#record, this.#ports),
      apply: (event) => this.#apply(event),
      enqueue: (effect) => this.#enqueue(effect),
      happened: (action, attributes) => this.#happened(action, attributes),
      reached: (stage) => this.#mark(stage),
      thawed: () => this.#save({ ...this.#record, frozen: undefined }),
      report: (line) => this.#ports.log(`VM ${this.#record.name}: ${line}`),
    };
  }

  #timed(boot: BootTimings, stage: BootStage): BootTimings {
    return { ...boot, [stage]: Math.round(monotonicMs() - this.#startedAtMonotonicMs) };
  }

  /** Kept in memory until the next store: timings are not worth a write of their own. */
  #mark(stage: BootStage): void {
    this.#record = { ...this.#record, boot: this.#timed(this.#record.boot, stage) };
  }

  #happened(action: string, attributes: Readonly<Record<string, string>>): void {
    this.#ports.onHappening({ action, vm: this.#record, attributes, timeMs: nowMs() });
  }
}

/** Asleep, or about to be awake: no guest answers. */
function isAsleep(state: VmRecord['state']): boolean {
  return state.name === 'asleep' || state.name === 'waking';
}

function exitOf(state: VmRecord['state']): { exitCode: number; error: string } {
  if (state.name === 'exited' || state.name === 'ending')
    return { exitCode: state.exit.exitCode, error: state.exit.error };
  if (state.name === 'created') return { exitCode: state.failure?.exitCode ?? 0, error: state.failure?.error ?? '' };
  return { exitCode: 0, error: '' };
}

function failureOf(exit: ExitFacts): BerthError {
  return new BerthError('unavailable', 'vm.start_failed', exit.error || 'the VM ended while it started');
}
