/**
 * One QEMU and the two sockets berthd holds to it. No decisions here: vm.ts decides.
 */
import type { Duplex } from 'node:stream';
import * as v from 'valibot';
import { BerthError, messageOf } from '#base';
import {
  connectUnix,
  type DetachedProcess,
  files,
  isAlive,
  killAndWait,
  processInfo,
  sleep,
  spawnDetached,
  startTimer,
} from '#platform';
import type { Machine, PortBinding } from './model.ts';
import {
  type BlockNode,
  DATA_DEVICE,
  dataNode,
  NETDEV,
  placeholder,
  type QemuBuild,
  type QemuRun,
  qemuArguments,
  ROOT_DEVICE,
  rootNode,
  STATE_DESCRIPTOR,
  volumeSlot,
} from './qemu-command.ts';
import { QmpClient } from './qmp.ts';

/** From spawn until both sockets answer; QEMU itself takes about 20 ms, a loaded host a hundred times that. */
const CONNECT_DEADLINE_MS = 30_000;
/** Between two looks whether a process that is being connected to is there still. */
const LOOK_AGAIN_MS = 50;
/** A state of 200 KiB takes 5 ms; a loaded host a hundred times that. */
const RESTORE_DEADLINE_MS = 15_000;
const SAVE_DEADLINE_MS = 15_000;
const TAP_DESCRIPTOR = 3;
const VersionSchema = v.object({ qemu: v.object({ major: v.number(), minor: v.number(), micro: v.number() }) });

/** Who QEMU runs as; undefined where berthd is not root and QEMU is the same user. */
export interface QemuIdentity {
  readonly uid: number;
  /** The group that may open /dev/kvm, when there is one. */
  readonly group: number | undefined;
}

/** The launcher's words for an identity. */
export function identityArguments(identity: QemuIdentity | undefined): string[] {
  if (identity === undefined) return [];
  const group = identity.group === undefined ? [] : ['--group', String(identity.group)];
  return ['--uid', String(identity.uid), '--gid', String(identity.uid), ...group];
}

/** What the machine's network card is plugged into. */
export type NetworkPlug =
  /** A tap the launcher makes; without a bridge it leads nowhere. */
  | { readonly kind: 'tap'; readonly tap: string; readonly bridge: string | undefined }
  | {
      readonly kind: 'user';
      readonly isolated: boolean;
      readonly address: string;
      readonly ports: readonly PortBinding[];
    };

export interface LaunchPlan {
  readonly launcher: string;
  readonly build: QemuBuild;
  readonly run: Omit<QemuRun, 'network' | 'qmpSocket' | 'agentSocket'>;
  readonly identity: QemuIdentity | undefined;
  readonly plug: NetworkPlug;
  /** For the machine's sockets; it must be there and QEMU's user must be able to write in it. */
  readonly folder: string;
  /** Opened by the launcher for a machine whose memory is not its `own`. */
  readonly memory?: MemoryFile;
  readonly stateFile?: string;
  /** QEMU's own words go here. */
  readonly logFile: string;
}

/** What is behind a machine's disks. */
export type MachineDisks = Pick<QemuRun, 'rootDescriptor' | 'dataDisk' | 'volumes'>;

/** A memory as the launcher opens it. `sealed`: refused unless nobody can change it any more. */
export interface MemoryFile {
  readonly path: string;
  readonly sealed: boolean;
}

/** The launcher's command line and behind it QEMU's: a value. */
export function launchArguments(plan: LaunchPlan): [string, ...string[]] {
  const { plug, memory, stateFile, folder } = plan;
  const run: QemuRun = {
    ...plan.run,
    qmpSocket: qmpSocketIn(folder),
    agentSocket: agentSocketIn(folder),
    network: plug.kind === 'tap' ? { kind: 'tap', descriptor: TAP_DESCRIPTOR } : plug,
  };
  const bridge = plug.kind === 'tap' && plug.bridge !== undefined ? ['--bridge', plug.bridge] : [];
  return [
    plan.launcher,
    ...identityArguments(plan.identity),
    ...(plug.kind === 'tap' ? ['--tap', plug.tap, ...bridge] : []),
    ...(memory === undefined ? [] : [memory.sealed ? '--sealed-memory' : '--memory', memory.path]),
    ...(stateFile === undefined ? [] : ['--state', stateFile]),
    ...['--log', plan.logFile, '--', plan.build.binary],
    ...qemuArguments(plan.build, run),
  ];
}

export function qmpSocketIn(folder: string): string {
  return `${folder}/qmp`;
}

export function agentSocketIn(folder: string): string {
  return `${folder}/agent`;
}

export interface MachineEvents {
  /** QEMU's control socket closed: it is gone or going. Once. */
  onGone(): void;
  onQmpEvent(name: string, data: Readonly<Record<string, unknown>>): void;
}

export class RunningMachine {
  readonly identity: Machine;
  /** Launched here with a file behind its memory, which it still has open: see letGoOfMemoryFile in twin.ts. */
  readonly keepsMemoryFile: boolean;
  readonly #logFile: string;
  readonly #child: DetachedProcess | undefined;
  #qmp: QmpClient | undefined;
  #agent: Duplex | undefined;
  #events: MachineEvents | undefined;
  /** Called with each event's name, and with undefined when the control socket has closed. */
  readonly #waiters = new Set<(event: string | undefined) => void>();

  private constructor(
    identity: Machine,
    logFile: string,
    child: DetachedProcess | undefined,
    keepsMemoryFile: boolean,
  ) {
    this.identity = identity;
    this.keepsMemoryFile = keepsMemoryFile;
    this.#logFile = logFile;
    this.#child = child;
  }

  /** Starts QEMU. It runs, but nothing is connected yet. @throws process.not_found, qemu.ended (unavailable) */
  static async launch(plan: LaunchPlan): Promise<RunningMachine> {
    const child = await spawnDetached(launchArguments(plan));
    const info = await processInfo(child.pid);
    const identity = {
      pid: child.pid,
      startTicks: info?.startTicks ?? 0,
      accelerator: plan.build.accelerator,
      folder: plan.folder,
    };
    return new RunningMachine(identity, plan.logFile, child, plan.run.memory === 'restored');
  }

  /** The QEMU that an earlier daemon started. */
  static adopt(identity: Machine, logFile: string): RunningMachine {
    return new RunningMachine(identity, logFile, undefined, false);
  }

  get qmp(): QmpClient {
    if (this.#qmp === undefined) throw new BerthError('unavailable', 'qemu.not_connected', 'QEMU is not connected yet');
    return this.#qmp;
  }

  /**
   * Connects both sockets; returns the guest channel's.
   *
   * @throws qemu.ended (unavailable) with QEMU's own words; socket.unreachable (unavailable); qmp.deadline (timeout).
   */
  async connect(events: MachineEvents): Promise<Duplex> {
    this.#events = events;
    const { folder } = this.identity;
    let ended = false;
    const isOver = new AbortController();
    void (this.#child?.ended ?? untilGone(this.identity, isOver.signal)).then(() => {
      ended = true;
    });
    try {
      const sockets = await Promise.allSettled([
        connectUnix(qmpSocketIn(folder), CONNECT_DEADLINE_MS, () => !ended),
        connectUnix(agentSocketIn(folder), CONNECT_DEADLINE_MS, () => !ended),
      ]);
      const [control, agent] = sockets.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      // One may have been closed again while the other came about.
      if (control === undefined || agent === undefined || control.destroyed || agent.destroyed) {
        for (const socket of [control, agent]) socket?.destroy();
        const failed = sockets.find((one) => one.status === 'rejected');
        throw failed?.reason ?? new BerthError('unavailable', 'qmp.closed', 'QEMU closed a socket while it started');
      }
      this.#agent = agent;
      this.#qmp = new QmpClient(control, {
        onEvent: (name, data) => {
          this.#heard(name === 'MIGRATION' ? `MIGRATION ${String(data['status'])}` : name);
          this.#events?.onQmpEvent(name, data);
        },
        onClosed: () => {
          this.#heard(undefined);
          this.#events?.onGone();
        },
      });
      return agent;
    } catch (error) {
      if (ended || !(await isAlive(this.identity))) {
        throw new BerthError('unavailable', 'qemu.ended', await this.lastWords(), { cause: error });
      }
      throw error;
    } finally {
      isOver.abort();
    }
  }

  /** Who hears of events from now on. */
  listen(events: MachineEvents): void {
    this.#events = events;
  }

  /**
   * Fills a machine that waits for its saved state, and lets it run.
   *
   * @throws qmp.refused, qmp.closed (unavailable), qmp.deadline (timeout): the machine is of no use any more.
   */
  async restore(): Promise<void> {
    const running = this.#untilEvent('RESUME', RESTORE_DEADLINE_MS);
    running.catch(() => {});
    await Promise.all([
      this.qmp.execute('migrate-incoming', { uri: `fd:${STATE_DESCRIPTOR}` }),
      // Taken while the state is still being read: the machine runs as soon as it is there.
      this.qmp.execute('cont'),
      running,
    ]);
  }

  /** As `restore`, for a machine that was launched to start paused: it is filled, and does not run yet. @throws as `restore` */
  async load(): Promise<void> {
    const filled = this.#untilEvent('MIGRATION completed', RESTORE_DEADLINE_MS);
    filled.catch(() => {});
    const capabilities = [{ capability: 'events', state: true }];
    await Promise.all([
      this.qmp.execute('migrate-set-capabilities', { capabilities }),
      this.qmp.execute('migrate-incoming', { uri: `fd:${STATE_DESCRIPTOR}` }),
      filled,
    ]);
  }

  /**
   * Stops the machine and writes the state of its devices, without memory and disks, to `path`; it stays stopped.
   *
   * The command bears Xen's name because Xen keeps the memory itself, as we do. It is there in every QEMU.
   *
   * @param path - in a folder where QEMU's own user may write.
   * @throws qmp.refused, qmp.closed (unavailable), qmp.deadline (timeout)
   */
  async saveDevices(path: string): Promise<void> {
    await Promise.all([
      this.stop(),
      this.qmp.execute('xen-save-devices-state', { filename: path, live: false }, SAVE_DEADLINE_MS),
    ]);
  }

  /** From here on nothing of it changes any more, its disks included. Safe to call again. @throws qmp.* */
  async stop(): Promise<void> {
    await this.qmp.execute('stop');
  }

  /** Where the guest's memory lies in QEMU, as /proc writes it: hexadecimal, without 0x. @throws machine.no_memory (bug) */
  async memoryRange(): Promise<{ readonly start: string; readonly end: string }> {
    const maps = (await files.readTextIfExists(`/proc/${this.identity.pid}/maps`)) ?? '';
    let found: { start: string; end: string; bytes: bigint } | undefined;
    for (const line of maps.split('\n')) {
      const [, start, end, path] = /^([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \S+ +(.*)$/.exec(line) ?? [];
      if (start === undefined || end === undefined || path === undefined || !path.startsWith('/')) continue;
      const bytes = BigInt(`0x${end}`) - BigInt(`0x${start}`);
      // Nothing else that QEMU maps from a file writably is as large.
      if (found === undefined || bytes > found.bytes) found = { start, end, bytes };
    }
    if (found === undefined) throw new BerthError('bug', 'machine.no_memory', 'QEMU maps no memory of a guest');
    return found;
  }

  /** QEMU's own version, such as 7.2.22. @throws qmp.* */
  async version(): Promise<string> {
    const answer = v.parse(VersionSchema, await this.qmp.execute('query-version'));
    const { major, minor, micro } = answer.qemu;
    return `${major}.${minor}.${micro}`;
  }

  /** Whether its network card's cable is in: what a guest says without it reaches nobody. @throws qmp.* */
  async plug(isIn: boolean): Promise<void> {
    await this.qmp.execute('set_link', { name: NETDEV, up: isIn });
  }

  /** Gives the disks of a machine from the pool what is behind them. @throws qmp.* */
  async attachDisks({ rootDescriptor, dataDisk, volumes = [] }: MachineDisks): Promise<void> {
    await Promise.all([
      ...(rootDescriptor === undefined ? [] : this.#put(rootNode('root1', rootDescriptor), ROOT_DEVICE)),
      ...(dataDisk === undefined ? [] : this.#put(dataNode('data1', dataDisk), DATA_DEVICE)),
      ...volumes.flatMap((path, index) => {
        const slot = volumeSlot(index);
        return this.#put(dataNode(`${slot}-1`, path), `/machine/peripheral/${slot}`);
      }),
    ]);
  }

  /** Takes from the two disks of a machine what was behind them since its launch, and closes it. @throws qmp.* */
  async detachDisks(): Promise<void> {
    await Promise.all([
      ...this.#put(placeholder('root0', true), ROOT_DEVICE),
      ...this.#put(placeholder('data0', false), DATA_DEVICE),
      ...['root', 'data'].map((node) => this.qmp.execute('blockdev-del', { 'node-name': node })),
    ]);
  }

  #put(node: BlockNode, device: string): Promise<unknown>[] {
    return [
      this.qmp.execute('blockdev-add', node),
      this.qmp.execute('qom-set', { path: device, property: 'drive', value: node['node-name'] }),
    ];
  }

  /** Lets go of the guest channel; the control socket stays. */
  hangUp(): void {
    this.#agent?.destroy();
  }

  /** Connects the guest channel again. @throws socket.unreachable (unavailable) */
  async callAgain(): Promise<Duplex> {
    this.#agent = await connectUnix(agentSocketIn(this.identity.folder), CONNECT_DEADLINE_MS, () => true);
    return this.#agent;
  }

  alive(): Promise<boolean> {
    return isAlive(this.identity);
  }

  /** Ends QEMU at once and waits until it is gone; the tap goes with it. Safe to call again. */
  async kill(): Promise<void> {
    await killAndWait(this.identity);
    this.#qmp?.close();
    this.#agent?.destroy();
  }

  /** Lets go of QEMU without ending it. */
  release(): void {
    this.#qmp?.close();
    this.#agent?.destroy();
  }

  #untilEvent(name: string, deadlineMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = startTimer(deadlineMs, () => {
        this.#waiters.delete(waiter);
        reject(new BerthError('timeout', 'qmp.deadline', `QEMU did not say ${name} within ${deadlineMs} ms`));
      });
      const waiter = (event: string | undefined): void => {
        if (event !== undefined && event !== name) return;
        this.#waiters.delete(waiter);
        timer.cancel();
        if (event === undefined) reject(new BerthError('unavailable', 'qmp.closed', `QEMU ended before ${name}`));
        else resolve();
      };
      this.#waiters.add(waiter);
    });
  }

  #heard(event: string | undefined): void {
    for (const waiter of this.#waiters) waiter(event);
  }

  /** A sentence on how QEMU ended, with what it said. */
  async lastWords(): Promise<string> {
    const text = await tailOfFile(this.#logFile);
    const words = text.trim().split('\n').slice(-3).join('; ');
    const how = this.#child === undefined ? undefined : await Promise.race([this.#child.ended, sleep(1_000)]);
    const status =
      how === undefined
        ? 'ended'
        : how.signal === null
          ? `ended with exit status ${how.exitCode}`
          : `was ended by signal ${how.signal}`;
    return `QEMU (pid ${this.identity.pid}) ${status}${words === '' ? '' : `: ${words}`}`;
  }

  /** Why QEMU does not answer, as far as the kernel knows. */
  async describeSilence(): Promise<string> {
    const info = await processInfo(this.identity.pid);
    if (info === undefined) return `QEMU (pid ${this.identity.pid}) is gone`;
    const why =
      info.state === 'T'
        ? 'is stopped by a signal (SIGSTOP); send it SIGCONT'
        : `does not answer (process state ${info.state})`;
    return `QEMU (pid ${this.identity.pid}) ${why}`;
  }
}

/** Of a process that is nobody's child here; resolves as well when it is no longer asked. */
async function untilGone(identity: Machine, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await isAlive(identity))) await sleep(LOOK_AGAIN_MS, signal).catch(() => {});
}

/** The last 4 KiB, or the reason why there are none. */
async function tailOfFile(path: string): Promise<string> {
  try {
    const handle = await files.open(path, 'r');
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, 4096);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    return `(its log is unreadable: ${messageOf(error)})`;
  }
}
