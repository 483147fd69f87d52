/**
 * The doer of one VM: takes requests and tidings, asks lifecycle.ts what they mean, stores the answer, then does it.
 *
 * Order of things for every event: decide, store, carry out the effects. So a daemon that dies between two of them
 * finds in the store what it was about to do. Effects run one at a time and report back as events.
 */
import { BerthError, messageOf, shortId } from '#base';
import { monotonicMs, nowMs, sleep, startTimer, type Timer } from '#platform';
import type { Exec, ExecSpec } from './exec.ts';
import { ExecTable } from './exec-table.ts';
import { configurationOf } from './guest-configuration.ts';
import { type GuestEvents, type GuestHello, GuestLink } from './guest-link.ts';
import { exitOfGuestShutdown } from './guest-shutdown.ts';
import { decide, hasMachine, type VmEffect, type VmEvent } from './lifecycle.ts';
import { RunningMachine } from './machine.ts';
import type { BootTimings, ExitFacts, TerminalSize, VmRecord } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import { ProcessLog } from './process-log.ts';
import type { Extent } from './root-disk.ts';
import { VmFolders } from './vm-folders.ts';
import { VmMilestones, type WaitCondition, type WaitOutcome } from './vm-milestones.ts';

/** The guest has this long from the first byte on the channel to take its configuration: TCG on a loaded host. */
const BOOT_DEADLINE_MS = 120_000;
/** From EXIT_ACK until the guest says its disks are flushed. */
const SYNC_DEADLINE_MS = 20_000;
/** From SIGKILL inside the guest until QEMU itself is killed. */
const KILL_GRACE_MS = 3_000;
/** Between two tries to store a state on a full disk. */
const STORE_RETRY_MS = 1_000;
const MAIN_PROCESS = 0;

export class Vm {
  #record: VmRecord;
  readonly #ports: EnginePorts;
  readonly #settings: EngineSettings;
  readonly #onGone: (vm: Vm) => void;
  readonly #milestones = new VmMilestones();
  readonly #folders: VmFolders;
  #log: Promise<ProcessLog> | undefined;
  #machine: RunningMachine | undefined;
  #link: GuestLink | undefined;
  readonly execs = new ExecTable();
  #effects: Promise<void> = Promise.resolve();
  #restarting = false;
  #killing = false;
  #startedAtMonotonicMs = 0;
  #lastError: BerthError | undefined;
  #storeRetry: Timer | undefined;
  #gone = false;

  constructor(record: VmRecord, ports: EnginePorts, settings: EngineSettings, onGone: (vm: Vm) => void) {
    this.#record = record;
    this.#ports = ports;
    this.#settings = settings;
    this.#onGone = onGone;
    this.#folders = new VmFolders(record.id, settings);
  }

  get record(): VmRecord {
    return this.#record;
  }

  get folder(): string {
    return this.#folders.state;
  }

  get runFolder(): string {
    return this.#folders.run;
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
    this.#apply({ type: 'start' });
    await this.#milestones.untilStarted();
  }

  /** Ends the main process politely, then not. Resolves when the VM is down. A VM that is down is vm.not_running (not_modified). */
  async stop(options: { readonly signal?: number; readonly timeoutSeconds?: number } = {}): Promise<void> {
    const { spec, state, name } = this.#record;
    if (!hasMachine(state)) throw new BerthError('not_modified', 'vm.not_running', `VM ${name} is not running`);
    const ended = this.#milestones.untilEnded();
    if (state.name === 'paused') await this.unpause();
    const timeoutMs = (options.timeoutSeconds ?? spec.stopTimeoutSeconds) * 1000;
    if (this.#link !== undefined) {
      this.#happened('kill', { signal: String(options.signal ?? spec.stopSignal) });
      this.#link.signal(MAIN_PROCESS, options.signal ?? spec.stopSignal);
      const graceful =
        timeoutMs < 0
          ? ended.then(() => true)
          : Promise.race([ended.then(() => true), sleep(timeoutMs).then(() => false)]);
      if (!(await graceful)) await this.#killProcess(ended);
    } else {
      await this.#killMachine();
    }
    await ended;
    this.#happened('stop', {});
  }

  /** @throws vm.not_running (conflict) */
  async kill(signal: number): Promise<void> {
    const { state, name } = this.#record;
    if (state.name !== 'running' && state.name !== 'paused') {
      throw new BerthError(
        'conflict',
        'vm.not_running',
        `cannot kill container: ${name}: container ${shortId(this.#record.id)} is not running`,
      );
    }
    this.#happened('kill', { signal: String(signal) });
    if (signal !== 9) {
      this.#link?.signal(MAIN_PROCESS, signal);
      return;
    }
    const ended = this.#milestones.untilEnded();
    if (state.name === 'paused') await this.#killMachine();
    else await this.#killProcess(ended);
    await ended;
  }

  async restart(options: { readonly signal?: number; readonly timeoutSeconds?: number }): Promise<void> {
    this.#restarting = true;
    try {
      if (hasMachine(this.#record.state)) await this.stop(options);
    } finally {
      this.#restarting = false;
    }
    await this.start();
    this.#happened('restart', {});
  }

  /** @throws vm.not_running, vm.already_paused (conflict); vm.unresponsive (timeout) */
  async pause(): Promise<void> {
    const { state, name } = this.#record;
    if (state.name === 'paused')
      throw new BerthError('conflict', 'vm.already_paused', `Container ${name} is already paused`);
    if (state.name !== 'running')
      throw new BerthError('conflict', 'vm.not_running', `Container ${name} is not running`);
    await this.#control('stop');
    this.#apply({ type: 'paused' });
    this.#happened('pause', {});
  }

  /** @throws vm.not_paused (conflict); vm.unresponsive (timeout) */
  async unpause(): Promise<void> {
    if (this.#record.state.name !== 'paused') {
      throw new BerthError('conflict', 'vm.not_paused', `Container ${this.#record.name} is not paused`);
    }
    await this.#control('cont');
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
    if (condition === 'not-running' && !hasMachine(state)) return exitOf(state);
    return await this.#milestones.untilOver(condition, exitOf(state), signal);
  }

  /** The main process's log; opened once, closed with the VM. */
  log(): Promise<ProcessLog> {
    this.#log ??= ProcessLog.open(this.logPath);
    return this.#log;
  }

  /** The channel to a running guest. @throws vm.not_running, vm.paused (conflict) */
  link(): GuestLink {
    const { state, name } = this.#record;
    if (state.name === 'paused') {
      throw new BerthError('conflict', 'vm.paused', `Container ${name} is paused, unpause the container before exec`);
    }
    if (state.name !== 'running' || this.#link === undefined) {
      throw new BerthError('conflict', 'vm.not_running', `Container ${this.#record.id} is not running`);
    }
    return this.#link;
  }

  /** Bytes for the main process's standard input; resolves when the guest has room for more. */
  async writeStdin(data: Buffer): Promise<void> {
    if (this.#record.state.name !== 'running' || this.#link === undefined) await this.#milestones.untilStartedOrEnded();
    await this.#link?.writeStdin(MAIN_PROCESS, data);
  }

  async endStdin(): Promise<void> {
    if (this.#record.state.name !== 'running' || this.#link === undefined) await this.#milestones.untilStartedOrEnded();
    this.#link?.endStdin(MAIN_PROCESS);
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
    this.#machine = RunningMachine.adopt(machine, this.#folders.qemuLog);
    try {
      await this.#rejoin(this.#machine);
    } catch (error) {
      const why = `it could not be taken over: ${messageOf(error)}; ${await this.#machine.describeSilence()}`;
      this.#ports.log(`VM ${this.#record.name}: ${why}`);
      // It is kept: it may answer later (a stopped QEMU, a busy host). stop, kill and rm -f still end it.
      this.#lastError = new BerthError('timeout', 'vm.unresponsive', why);
      if (state.name === 'ending') this.#enqueue('tear_down');
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
    this.#machine?.release();
    const log = await this.#log;
    await log?.settled();
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
        void this.#boot().catch((error: unknown) => this.#startFailed(error));
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
        await this.#finish();
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
    const { id, spec, uid, run } = this.#record;
    this.#startedAtMonotonicMs = monotonicMs();
    this.#lastError = undefined;
    (await this.log()).markStarted();
    const build = await this.#settings.build();
    await this.#folders.prepareRun(uid);
    const extents = await this.#folders.writeRootDescriptor(this.#record, this.#ports);
    const wantsNetwork = spec.network.mode === 'bridge' && this.#ports.network !== undefined;
    const network = wantsNetwork
      ? await this.#ports.network?.attach({
          vmId: id,
          names: this.#names(),
          ports: spec.network.ports,
          mac: spec.network.mac,
        })
      : undefined;
    if (!this.#isStarting(run)) {
      await this.#ports.network?.detach(id);
      return;
    }
    const machine = await RunningMachine.launch({
      launcher: this.#settings.launcher,
      build,
      identity: this.#settings.firstUid === undefined ? undefined : { uid, group: this.#settings.kvmGroup },
      network,
      logFile: this.#folders.qemuLog,
      run: {
        name: `berth-${shortId(id)}`,
        vcpus: spec.vcpus,
        memoryBytes: spec.memoryBytes,
        qmpSocket: this.#folders.qmpSocket,
        agentSocket: this.#folders.agentSocket,
        rootDescriptor: extents.length === 0 ? undefined : this.#folders.rootDescriptor,
        dataDisk: this.#folders.dataDisk,
      },
    });
    this.#machine = machine;
    this.#save({
      ...this.#record,
      machine: machine.identity,
      network,
      boot: this.#timed({ spawnedMs: 0 }, 'spawnedMs'),
    });
    const link = await this.#connect(machine, run);
    await link.hello(false, BOOT_DEADLINE_MS);
    this.#mark('agentMs');
    await this.#configureAndStart(link, extents);
  }

  #isStarting(run: number): boolean {
    return this.#record.state.name === 'starting' && this.#record.run === run;
  }

  async #configureAndStart(link: GuestLink, extents: readonly Extent[]): Promise<void> {
    await link.configure(configurationOf(this.#record, extents, nowMs()));
    this.#mark('configuredMs');
    await this.#startMain(link);
  }

  async #startMain(link: GuestLink): Promise<void> {
    const { process, terminal } = this.#record.spec;
    await link.start(MAIN_PROCESS, process, terminal);
    this.#mark('startedMs');
    this.#apply({ type: 'process_started' });
  }

  async #connect(machine: RunningMachine, run: number): Promise<GuestLink> {
    const stream = await machine.connect(this.#folders.qmpSocket, this.#folders.agentSocket, {
      onGone: () => void this.#machineGone(machine),
      onQmpEvent: (name, data) => this.#onQmpEvent(machine, name, data),
    });
    const log = await this.log();
    const events: GuestEvents = {
      onOutput: ({ id, stream: outputStream, data, offset }) => {
        if (id === MAIN_PROCESS) {
          log.append(run, outputStream, data, (end) => this.#link?.ack(MAIN_PROCESS, outputStream, end));
          return;
        }
        const taken = (): void => this.#link?.ack(id, outputStream, offset + data.length);
        const exec = this.execs.byChannel(id);
        if (exec === undefined) taken();
        else exec.deliver(outputStream, data, taken);
      },
      onExited: (exited) => void this.#onExited(exited),
      onLog: (text) => this.#ports.log(`VM ${this.#record.name}: guest: ${text}`),
    };
    const link = new GuestLink(stream, events);
    this.#link = link;
    await machine.qmp.negotiate(BOOT_DEADLINE_MS);
    return link;
  }

  async #rejoin(machine: RunningMachine): Promise<void> {
    const { run, state } = this.#record;
    const link = await this.#connect(machine, run);
    const status = (await machine.qmp.execute('query-status')) as { status?: unknown };
    if (state.name === 'ending') {
      // The guest may still have its disk to flush; it says so again after a greeting.
      if (status.status === 'running') await link.hello(true, SYNC_DEADLINE_MS);
      this.#enqueue(status.status === 'running' ? 'finish' : 'tear_down');
      return;
    }
    if (status.status === 'shutdown' || status.status === 'guest-panicked') {
      await this.#guestShutDown(machine);
      return;
    }
    if (state.name === 'paused') {
      // A paused guest cannot greet; the greeting waits in its port until unpause.
      void this.#greetAgain(link).catch((error: unknown) =>
        this.#ports.log(`VM ${this.#record.name}: ${messageOf(error)}`),
      );
      return;
    }
    if (status.status === 'paused' || status.status === 'io-error') {
      this.#apply(
        status.status === 'paused' ? { type: 'paused' } : { type: 'machine_stopped', error: 'the host disk is full' },
      );
      void this.#greetAgain(link).catch((error: unknown) =>
        this.#ports.log(`VM ${this.#record.name}: ${messageOf(error)}`),
      );
      return;
    }
    await this.#greetAgain(link);
  }

  async #greetAgain(link: GuestLink): Promise<void> {
    const hello = await link.hello(true, BOOT_DEADLINE_MS);
    if (hello.phase === 'fresh') {
      await this.#configureAndStart(link, await this.#folders.writeRootDescriptor(this.#record, this.#ports));
      return;
    }
    await this.#resumeProcesses(link, hello);
  }

  async #resumeProcesses(link: GuestLink, hello: GuestHello): Promise<void> {
    const log = await this.log();
    const offsets = log.offsetsOf(this.#record.run);
    for (const process of hello.processes) {
      this.execs.taken(process.id);
      if (process.id === MAIN_PROCESS) link.resume(MAIN_PROCESS, offsets.stdout, offsets.stderr);
      else link.resume(process.id, process.stdoutBytes, process.stderrBytes);
    }
    if (hello.processes.some((process) => process.id === MAIN_PROCESS)) {
      if (this.#record.state.name === 'starting') this.#apply({ type: 'process_started' });
      return;
    }
    if (hello.phase === 'configured' && this.#record.state.name === 'starting') {
      await this.#startMain(link);
      return;
    }
    // The main process is gone and acknowledged: the daemon died while the guest was ending.
    this.#enqueue('tear_down');
  }

  async #onExited(exited: { id: number; exitCode: number; oomKilled: boolean }): Promise<void> {
    if (exited.id !== MAIN_PROCESS) {
      const exec = this.execs.byChannel(exited.id);
      exec?.finish(exited.exitCode);
      this.#link?.exitAck(exited.id);
      if (exec !== undefined) this.#happened('exec_die', { execID: exec.id, exitCode: String(exited.exitCode) });
      return;
    }
    const log = await this.log();
    await log.settled();
    this.#apply({
      type: 'process_exited',
      exit: { exitCode: exited.exitCode, oomKilled: exited.oomKilled, error: '', atMs: nowMs() },
    });
  }

  #onQmpEvent(machine: RunningMachine, name: string, data: Readonly<Record<string, unknown>>): void {
    if (machine !== this.#machine) return;
    if (name === 'SHUTDOWN' && data['guest'] === true) void this.#guestShutDown(machine);
    if (name === 'BLOCK_IO_ERROR' && data['action'] === 'stop') {
      const error = 'the host disk is full: the VM stopped before losing anything; free some space, then unpause it';
      this.#ports.log(`VM ${this.#record.name}: ${error}`);
      this.#apply({ type: 'machine_stopped', error });
    }
  }

  /** The guest powered off or crashed by itself; QEMU waits (-no-shutdown) so that its console can still be read. */
  async #guestShutDown(machine: RunningMachine): Promise<void> {
    const { state } = this.#record;
    if (state.name === 'ending') return;
    const exit = await exitOfGuestShutdown(machine.qmp, (line) => this.#ports.log(`VM ${this.#record.name}: ${line}`));
    this.#apply({ type: 'machine_gone', exit });
  }

  async #machineGone(machine: RunningMachine): Promise<void> {
    if (machine !== this.#machine || this.#killing || !hasMachine(this.#record.state)) return;
    const error = await machine.lastWords();
    this.#apply({ type: 'machine_gone', exit: { exitCode: 137, oomKilled: false, error, atMs: nowMs() } });
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

  /** After the main process: lets the guest flush its disk, unless the disk is about to be thrown away. */
  async #finish(): Promise<void> {
    const link = this.#link;
    if (link === undefined) return;
    const keep = !(this.#record.spec.autoRemove && !this.#restarting) && this.#record.removal === 'none';
    link.exitAck(MAIN_PROCESS);
    if (!keep) return;
    if (!(await link.synced(SYNC_DEADLINE_MS))) {
      this.#ports.log(`VM ${this.#record.name}: the guest did not flush its disk within ${SYNC_DEADLINE_MS} ms`);
    }
  }

  async #tearDown(): Promise<void> {
    const machine = this.#machine;
    this.#machine = undefined;
    this.#link = undefined;
    await machine?.kill();
    this.execs.endAll(137);
    await this.#ports.network?.detach(this.#record.id);
    await this.#folders.removeRun();
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

  /** SIGKILL inside the guest, so that its disk is flushed; QEMU itself when that has no effect. */
  async #killProcess(ended: Promise<unknown>): Promise<void> {
    this.#link?.signal(MAIN_PROCESS, 9);
    const over = await Promise.race([ended.then(() => true), sleep(KILL_GRACE_MS).then(() => false)]);
    if (!over) await this.#killMachine();
  }

  async #killMachine(): Promise<void> {
    const machine = this.#machine;
    if (machine === undefined) {
      const exit = { exitCode: 137, oomKilled: false, error: '', atMs: nowMs() };
      this.#apply({ type: 'machine_gone', exit });
      return;
    }
    // Its end is ours, not an accident: what the control socket says of it is not news.
    this.#killing = true;
    try {
      await machine.kill();
    } finally {
      this.#killing = false;
    }
    this.#apply({ type: 'machine_gone', exit: { exitCode: 137, oomKilled: false, error: '', atMs: nowMs() } });
  }

  async #control(command: 'stop' | 'cont'): Promise<void> {
    const machine = this.#machine;
    if (machine === undefined)
      throw new BerthError('conflict', 'vm.not_running', `Container ${this.#record.name} is not running`);
    try {
      await machine.qmp.execute(command);
    } catch (error) {
      throw new BerthError(
        'timeout',
        'vm.unresponsive',
        `VM ${this.#record.name}: ${await machine.describeSilence()}`,
        { cause: error },
      );
    }
  }

  #timed(boot: BootTimings, stage: keyof BootTimings): BootTimings {
    return { ...boot, [stage]: Math.round(monotonicMs() - this.#startedAtMonotonicMs) };
  }

  /** Kept in memory until the next store: timings are not worth a write of their own. */
  #mark(stage: keyof BootTimings): void {
    this.#record = { ...this.#record, boot: this.#timed(this.#record.boot, stage) };
  }

  #happened(action: string, attributes: Readonly<Record<string, string>>): void {
    this.#ports.onHappening({ action, vm: this.#record, attributes, timeMs: nowMs() });
  }
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
