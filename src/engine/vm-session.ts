/**
 * One run of a VM as seen from berthd: its QEMU, the control socket, the guest channel, from launch or adoption to the end.
 *
 * A session tells its host what happened (`apply`) and does what it is told; it decides nothing about the VM's state.
 * After `end` nothing of it is heard any more, whatever its sockets still bring.
 */
import type { Duplex } from 'node:stream';
import { BerthError, messageOf } from '#base';
import { nowMs, sleep } from '#platform';
import type { ExecTable } from './exec-table.ts';
import { clockAt, configurationOf, type GuestClock } from './guest-configuration.ts';
import { type GuestEvents, type GuestHello, GuestLink } from './guest-link.ts';
import { exitOfGuestShutdown } from './guest-shutdown.ts';
import { hasMachine, type VmEffect, type VmEvent } from './lifecycle.ts';
import type { MachineEvents, RunningMachine } from './machine.ts';
import type { BootStage, ExitFacts, VmRecord } from './model.ts';
import type { ProcessLog } from './process-log.ts';
import type { Extent } from './root-disk.ts';

/** The guest has this long from the first byte on the channel to take its configuration: TCG on a loaded host. */
const BOOT_DEADLINE_MS = 120_000;
/** A restored guest answers within 50 ms; when it does not, booting the kernel is the quicker way. */
const RESTORED_DEADLINE_MS = 10_000;
/** QEMU answers its control socket within milliseconds; a stopped one never. */
const CONTROL_DEADLINE_MS = 10_000;
/** A configured guest greets at once; then it is asked again. */
const REJOIN_DEADLINE_MS = 15_000;
/** From EXIT_ACK until the guest says its disks are flushed. */
const SYNC_DEADLINE_MS = 20_000;
/** From SIGKILL inside the guest until QEMU itself is killed. */
const KILL_GRACE_MS = 3_000;
/** Of one run in berthd's log. */
const MAX_GUEST_LINES = 100;
export const MAIN_PROCESS = 0;

export interface SessionHost {
  readonly record: VmRecord;
  readonly execs: ExecTable;
  log(): Promise<ProcessLog>;
  /** The layers' places on the root disk. */
  layers(): Promise<readonly Extent[]>;
  apply(event: VmEvent): void;
  enqueue(effect: VmEffect): void;
  happened(action: string, attributes: Readonly<Record<string, string>>): void;
  reached(stage: BootStage): void;
  /** What an earlier daemon had frozen goes on. */
  thawed(): void;
  report(line: string): void;
}

export interface FreezeOptions {
  /** What the guest holds back goes to its disk. */
  readonly flush: boolean;
  /** The VM ends afterwards: its processes do not go on. */
  readonly end: boolean;
}

export interface WakeSteps {
  /** Called when the machine is connected, and empty. */
  prepare(): Promise<void>;
  /** Called when the machine is complete and about to run: from then on its files are the past. */
  onFilled(): void;
  /** Called when it is told to run; its guest has not answered yet. */
  onRunning(): void;
  /** Resolves when the guest program may be talked to. */
  untilServed(): Promise<void>;
}

export class VmSession {
  readonly machine: RunningMachine;
  readonly #host: SessionHost;
  #link: GuestLink | undefined;
  #killing = false;
  #over = false;
  #guestLines = 0;
  #greeted = false;
  #clock: GuestClock | undefined;
  #launching = false;
  /** Settled once the start of the main process, if this session asks for it, has been told. */
  #mainStart: Promise<void> = Promise.resolve();
  #hello: GuestHello | undefined;

  constructor(machine: RunningMachine, host: SessionHost) {
    this.machine = machine;
    this.#host = host;
  }

  /** The channel, once it is connected. */
  get link(): GuestLink | undefined {
    return this.#link;
  }

  /** Whether the guest has said which processes it has: before that a new one could take another's number. */
  get isGreeted(): boolean {
    return this.#greeted;
  }

  /**
   * From a QEMU that was just launched to a guest program that answers.
   *
   * @param isRestored - it waits for its saved state instead of booting a kernel.
   * @throws what went wrong on the way: until here nothing of the VM's own has been touched, and another try is free.
   */
  async greet(isRestored: boolean): Promise<void> {
    await this.#whileLaunching(async () => {
      const link = await this.#connect();
      if (isRestored) {
        await this.machine.restore();
        this.#host.reached('restoredMs');
      }
      const hello = await link.hello(false, isRestored ? RESTORED_DEADLINE_MS : BOOT_DEADLINE_MS);
      this.#clock = clockAt(nowMs(), hello.answeredNs);
    });
    this.#greeted = true;
    this.#host.reached('agentMs');
  }

  /** As `greet`, for a machine from the pool: connected, and its guest greeted others before. */
  async greetAgain(agent: Duplex): Promise<void> {
    await this.#whileLaunching(async () => {
      this.machine.listen(this.#machineEvents());
      const link = await this.#linkOver(agent);
      const hello = await link.hello(false, RESTORED_DEADLINE_MS);
      this.#clock = clockAt(nowMs(), hello.answeredNs);
    });
    this.#greeted = true;
    this.#host.reached('agentMs');
  }

  /**
   * From a QEMU that was launched to start paused to a guest that goes on where it was put away.
   *
   * @throws what went wrong; before `onFilled` nothing has changed.
   */
  async wakeUp({ prepare, onFilled, onRunning, untilServed }: WakeSteps): Promise<void> {
    const link = await this.#whileLaunching(async () => {
      const connected = await this.#connect();
      // One behind the other, without waiting in between: QEMU takes them in their order.
      await Promise.all([prepare(), this.machine.load()]);
      return connected;
    });
    onFilled();
    // The first that it reads: whatever it answers, it answers at the right time.
    link.setClock(clockAt(nowMs(), 0));
    const running = this.machine.qmp.execute('cont');
    // What is handed on meets a card that is there, and is answered as soon as the machine runs.
    onRunning();
    await running;
    await untilServed();
    await this.#greetAgain(link);
  }

  /** From there to a main process that runs. @throws what went wrong on the way */
  async begin(extents: readonly Extent[]): Promise<void> {
    if (this.#link === undefined) throw new BerthError('bug', 'session.order', 'a session begins after its greeting');
    try {
      await this.#configureAndStart(this.#link, extents);
    } catch (error) {
      const isCut = error instanceof BerthError && (error.code === 'guest.connection' || error.code === 'guest.closed');
      if (!isCut) throw error;
      // How QEMU ended says more than that its socket did.
      throw new BerthError('unavailable', 'qemu.ended', await this.machine.lastWords(), { cause: error });
    }
  }

  /**
   * From a QEMU that holds the copy of a machine, or will when `run` is called, to a guest that has become this VM. Its
   * processes are frozen and its cable is out: nothing of the original's speaks under its name.
   *
   * @throws what went wrong on the way; what `run` throws.
   */
  async become(run: () => Promise<void>): Promise<void> {
    await this.#whileLaunching(async () => {
      const link = await this.#connect();
      await run();
      this.#host.reached('restoredMs');
      const greeted = link.hello(true, RESTORED_DEADLINE_MS);
      greeted.catch(() => {});
      // Sent right behind the greeting; the clock is that of its arrival.
      await link.identify(configurationOf(this.#host.record, [], clockAt(nowMs(), 0)));
      this.#hello = await greeted;
    });
    this.#greeted = true;
    this.#host.reached('agentMs');
  }

  /** What ends the machine during `work` is the failure of `work`, and not news of its own. @throws it, in QEMU's own words */
  async #whileLaunching<T>(work: () => Promise<T>): Promise<T> {
    this.#launching = true;
    try {
      return await work();
    } catch (error) {
      this.#over = true;
      throw error instanceof BerthError && error.code === 'qmp.closed'
        ? new BerthError('unavailable', 'qemu.ended', await this.machine.lastWords(), { cause: error })
        : error;
    } finally {
      this.#launching = false;
    }
  }

  /** From there to processes that go on, with their output numbered from 0. */
  async goOn(plugIn: () => Promise<void>): Promise<void> {
    const [link, hello] = [this.#link, this.#hello];
    if (link === undefined || hello === undefined)
      throw new BerthError('bug', 'session.order', 'a session goes on after it has become its VM');
    for (const process of hello.processes) {
      this.#host.execs.taken(process.id);
      link.resume(process.id, 0, 0);
    }
    await plugIn();
    await link.thaw();
    this.#host.reached('processMs');
    if (!this.#over) this.#host.apply({ type: 'process_started' });
  }

  /** Runs `work` with frozen processes on a machine that it may stop; both go on afterwards. @throws guest.freeze (unavailable) */
  async whileFrozen({ flush, end }: FreezeOptions, work: (machine: RunningMachine) => Promise<void>): Promise<void> {
    const link = this.#link;
    if (link === undefined) throw new BerthError('bug', 'session.order', 'the session has no channel yet');
    let isDone = false;
    try {
      await link.freeze(flush);
      await work(this.machine);
      isDone = true;
    } finally {
      if (!this.#over && (await this.machine.alive())) {
        await this.control('cont');
        // What is killed does not have to go on first.
        if (!(end && isDone)) await link.thaw();
      }
    }
  }

  /** Takes over a QEMU that an earlier daemon launched, in whatever stage it is. @throws when it does not answer */
  async rejoin(): Promise<void> {
    const { state, transit } = this.#host.record;
    const link = await this.#connect();
    // Stopped while a copy was taken of it: whatever became of that copy, it goes on.
    if (this.#host.record.frozen === true && state.name !== 'ending') await this.control('cont');
    let { status } = (await this.machine.qmp.execute('query-status')) as { status?: unknown };
    if (state.name === 'ending') {
      // The guest may still have its disk to flush; it says so again after a greeting.
      if (status === 'running') await link.hello(true, SYNC_DEADLINE_MS);
      this.#host.enqueue(status === 'running' ? 'finish' : 'tear_down');
      return;
    }
    if (status === 'shutdown' || status === 'guest-panicked') {
      await this.#guestShutDown();
      return;
    }
    if (transit !== undefined && (status === 'paused' || status === 'prelaunch' || status === 'save-vm')) {
      // A daemon died while it put this machine away or woke it: its process never asked to be stopped.
      await this.machine.qmp.execute('cont');
      status = 'running';
    }
    if (state.name === 'starting' && status !== 'running') {
      throw new BerthError('unavailable', 'vm.half_started', `its QEMU was still being filled (${String(status)})`);
    }
    const isStopped = status === 'paused' || status === 'io-error';
    if (isStopped && state.name !== 'paused') {
      this.#host.apply(
        status === 'paused' ? { type: 'paused' } : { type: 'machine_stopped', error: 'the host disk is full' },
      );
    }
    const greeted = this.#greetAgain(link);
    // A paused guest cannot greet; the greeting waits in its port until unpause.
    if (isStopped || state.name === 'paused') greeted.catch((error: unknown) => this.#host.report(messageOf(error)));
    else await greeted;
  }

  /** After the main process: lets the guest flush its disk, unless `keep` is false and the disk is thrown away. */
  async finish(keep: boolean): Promise<void> {
    const link = this.#link;
    if (link === undefined) return;
    link.exitAck(MAIN_PROCESS);
    if (keep && !(await link.synced(SYNC_DEADLINE_MS))) {
      this.#host.report(`the guest did not flush its disk within ${SYNC_DEADLINE_MS} ms`);
    }
  }

  /** SIGKILL inside the guest, so that its disk is flushed; QEMU itself when that has no effect. */
  async killProcess(ended: Promise<unknown>): Promise<void> {
    this.#link?.signal(MAIN_PROCESS, 9);
    const over = await Promise.race([ended.then(() => true), sleep(KILL_GRACE_MS).then(() => false)]);
    if (!over) await this.killMachine();
  }

  async killMachine(): Promise<void> {
    // Its end is ours, not an accident: what the control socket says of it is not news.
    this.#killing = true;
    try {
      await this.machine.kill();
    } finally {
      this.#killing = false;
    }
    this.#host.apply({ type: 'machine_gone', exit: killed('') });
  }

  /** @throws vm.unresponsive (timeout) with what the kernel knows of QEMU. */
  async control(command: 'stop' | 'cont'): Promise<void> {
    try {
      await this.machine.qmp.execute(command);
    } catch (error) {
      const why = await this.machine.describeSilence();
      throw new BerthError('timeout', 'vm.unresponsive', `VM ${this.#host.record.name}: ${why}`, { cause: error });
    }
  }

  /** Ends QEMU. */
  async end(): Promise<void> {
    this.#over = true;
    await this.machine.kill();
  }

  /** Lets go without ending anything. */
  release(): void {
    this.#over = true;
    this.machine.release();
  }

  async #connect(): Promise<GuestLink> {
    const link = await this.#linkOver(await this.machine.connect(this.#machineEvents()));
    await this.machine.qmp.negotiate(CONTROL_DEADLINE_MS);
    return link;
  }

  #machineEvents(): MachineEvents {
    return {
      onGone: () => void this.#gone(),
      onQmpEvent: (name, data) => this.#onQmpEvent(name, data),
    };
  }

  async #linkOver(agent: Duplex): Promise<GuestLink> {
    const link = new GuestLink(agent, this.#guestEvents(await this.#host.log(), this.#host.record.run));
    this.#link = link;
    return link;
  }

  #guestEvents(log: ProcessLog, run: number): GuestEvents {
    return {
      onOutput: ({ id, stream, data, offset }) => {
        if (id === MAIN_PROCESS) {
          log.append(run, stream, data, (end) => this.#link?.ack(MAIN_PROCESS, stream, end));
          return;
        }
        const taken = (): void => this.#link?.ack(id, stream, offset + data.length);
        const exec = this.#host.execs.byChannel(id);
        if (exec === undefined) taken();
        else exec.deliver(stream, data, taken);
      },
      onExited: (exited) => void this.#onExited(log, exited),
      // What breaks when the machine is ended is no news.
      onLog: (text) => {
        if (!this.#over && !this.#killing) this.#guestLog(text);
      },
    };
  }

  /** The guest is not trusted with our log: few lines, short, without control characters. */
  #guestLog(text: string): void {
    this.#guestLines += 1;
    if (this.#guestLines > MAX_GUEST_LINES) return;
    const last = this.#guestLines === MAX_GUEST_LINES ? ' (further lines are dropped)' : '';
    this.#host.report(`guest: ${text.replace(/\p{C}/gu, ' ').slice(0, 300)}${last}`);
  }

  async #configureAndStart(link: GuestLink, extents: readonly Extent[]): Promise<void> {
    const clock = this.#clock ?? clockAt(nowMs(), 0);
    const configured = link.configure(configurationOf(this.#host.record, extents, clock));
    // Sent right behind: the guest starts the process in the same breath, and refuses when it could not prepare.
    const started = this.#startMain(link, configured);
    started.catch(() => {});
    await configured;
    this.#host.reached('rootfsMs');
    await started;
  }

  #startMain(link: GuestLink, prepared: Promise<unknown>): Promise<void> {
    const start = this.#askToStart(link, prepared);
    // The end of a process that ran for a moment arrives in the same breath as its start: it is told after it.
    this.#mainStart = start.catch(() => {});
    return start;
  }

  async #askToStart(link: GuestLink, prepared: Promise<unknown>): Promise<void> {
    const { process, terminal } = this.#host.record.spec;
    const started = link.start(MAIN_PROCESS, process, terminal);
    started.catch(() => {});
    // Why it could not be prepared says more than that it was not.
    await prepared;
    await started;
    this.#host.reached('processMs');
    if (!this.#over) this.#host.apply({ type: 'process_started' });
  }

  async #greetAgain(link: GuestLink): Promise<void> {
    const hello = await link.hello(true, REJOIN_DEADLINE_MS);
    this.#clock = clockAt(nowMs(), hello.answeredNs);
    // A machine that was stopped for a while has a clock that was stopped as well.
    link.setClock(this.#clock);
    if (this.#host.record.frozen === true) {
      await link.thaw();
      this.#host.thawed();
    }
    if (hello.phase === 'fresh') this.#greeted = true;
    if (hello.phase === 'fresh') await this.#configureAndStart(link, await this.#host.layers());
    else await this.#resumeProcesses(link, hello);
  }

  async #resumeProcesses(link: GuestLink, hello: GuestHello): Promise<void> {
    const log = await this.#host.log();
    const offsets = log.offsetsOf(this.#host.record.run);
    for (const process of hello.processes) {
      this.#host.execs.taken(process.id);
      if (process.id === MAIN_PROCESS) link.resume(MAIN_PROCESS, offsets.stdout, offsets.stderr);
      else link.resume(process.id, process.stdoutBytes, process.stderrBytes);
    }
    this.#greeted = true;
    const isStarting = this.#host.record.state.name === 'starting';
    if (hello.processes.some((process) => process.id === MAIN_PROCESS)) {
      if (isStarting) this.#host.apply({ type: 'process_started' });
    } else if (hello.phase === 'configured' && isStarting) {
      await this.#startMain(link, Promise.resolve());
    } else {
      // The main process is gone and acknowledged: the daemon died while the guest was ending.
      this.#host.enqueue('tear_down');
    }
  }

  async #onExited(log: ProcessLog, exited: { id: number; exitCode: number; oomKilled: boolean }): Promise<void> {
    const { id, exitCode, oomKilled } = exited;
    if (id === MAIN_PROCESS) {
      await Promise.all([log.settled(), this.#mainStart]);
      if (this.#over) return;
      this.#host.apply({ type: 'process_exited', exit: { exitCode, oomKilled, error: '', atMs: nowMs() } });
      return;
    }
    const exec = this.#host.execs.byChannel(id);
    exec?.finish(exitCode);
    this.#link?.exitAck(id);
    if (exec !== undefined) this.#host.happened('exec_die', { execID: exec.id, exitCode: String(exitCode) });
  }

  #onQmpEvent(name: string, data: Readonly<Record<string, unknown>>): void {
    if (this.#over || this.#launching) return;
    if (name === 'SHUTDOWN' && data['guest'] === true) void this.#guestShutDown();
    if (name === 'BLOCK_IO_ERROR' && data['action'] === 'stop') {
      const error = 'the host disk is full: the VM stopped before losing anything; free some space, then unpause it';
      this.#host.report(error);
      this.#host.apply({ type: 'machine_stopped', error });
    }
  }

  /** The guest powered off or crashed by itself; QEMU waits (-no-shutdown) so that its console can still be read. */
  async #guestShutDown(): Promise<void> {
    if (this.#host.record.state.name === 'ending') return;
    const exit = await exitOfGuestShutdown(this.machine.qmp, (line) => this.#host.report(line));
    if (!this.#over) this.#host.apply({ type: 'machine_gone', exit });
  }

  /** The control socket closed and nobody here asked for it. */
  async #gone(): Promise<void> {
    if (this.#over || this.#killing || this.#launching || !hasMachine(this.#host.record.state)) return;
    const error = await this.machine.lastWords();
    if (!this.#over) this.#host.apply({ type: 'machine_gone', exit: killed(error) });
  }
}

/** Of a run that SIGKILL ended, ours or another's. */
export function killed(error: string): ExitFacts {
  return { exitCode: 137, oomKilled: false, error, atMs: nowMs() };
}
