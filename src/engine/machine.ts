/**
 * One QEMU and the two sockets berthd holds to it. No decisions here: vm.ts decides.
 */
import type { Duplex } from 'node:stream';
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
} from '#platform';
import type { Machine, NetworkAttachment } from './model.ts';
import { type QemuBuild, type QemuRun, qemuArguments } from './qemu-command.ts';
import { QmpClient } from './qmp.ts';

/** From spawn until both sockets answer; QEMU itself takes about 20 ms, a loaded host a hundred times that. */
const CONNECT_DEADLINE_MS = 30_000;
const TAP_DESCRIPTOR = 3;

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

export interface LaunchPlan {
  readonly launcher: string;
  readonly build: QemuBuild;
  readonly run: Omit<QemuRun, 'network'>;
  readonly identity: QemuIdentity | undefined;
  readonly network: NetworkAttachment | undefined;
  /** QEMU's own words go here. */
  readonly logFile: string;
}

/** The launcher's command line and behind it QEMU's: a value. */
export function launchArguments(plan: LaunchPlan): [string, ...string[]] {
  const { network } = plan;
  const run: QemuRun = {
    ...plan.run,
    network:
      network?.kind === 'bridge'
        ? { ...network, kind: 'bridge', tapDescriptor: TAP_DESCRIPTOR }
        : network?.kind === 'user'
          ? { ...network, kind: 'user' }
          : undefined,
  };
  return [
    plan.launcher,
    ...identityArguments(plan.identity),
    ...(network?.kind === 'bridge' ? ['--tap', network.tap, '--bridge', network.bridge] : []),
    ...['--log', plan.logFile, '--', plan.build.binary],
    ...qemuArguments(plan.build, run),
  ];
}

export interface MachineEvents {
  /** QEMU's control socket closed: it is gone or going. Once. */
  onGone(): void;
  onQmpEvent(name: string, data: Readonly<Record<string, unknown>>): void;
}

export class RunningMachine {
  readonly identity: Machine;
  readonly #logFile: string;
  readonly #child: DetachedProcess | undefined;
  #qmp: QmpClient | undefined;
  #agent: Duplex | undefined;

  private constructor(identity: Machine, logFile: string, child: DetachedProcess | undefined) {
    this.identity = identity;
    this.#logFile = logFile;
    this.#child = child;
  }

  /** Starts QEMU. It runs, but nothing is connected yet. @throws process.not_found, qemu.ended (unavailable) */
  static async launch(plan: LaunchPlan): Promise<RunningMachine> {
    const child = await spawnDetached(launchArguments(plan));
    const info = await processInfo(child.pid);
    const identity = { pid: child.pid, startTicks: info?.startTicks ?? 0, accelerator: plan.build.accelerator };
    return new RunningMachine(identity, plan.logFile, child);
  }

  /** The QEMU that an earlier daemon started. */
  static adopt(identity: Machine, logFile: string): RunningMachine {
    return new RunningMachine(identity, logFile, undefined);
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
  async connect(qmpSocket: string, agentSocket: string, events: MachineEvents): Promise<Duplex> {
    let ended = false;
    void this.#child?.ended.then(() => {
      ended = true;
    });
    try {
      const [control, agent] = await Promise.all([
        connectUnix(qmpSocket, CONNECT_DEADLINE_MS, () => !ended),
        connectUnix(agentSocket, CONNECT_DEADLINE_MS, () => !ended),
      ]);
      this.#agent = agent;
      this.#qmp = new QmpClient(control, { onEvent: events.onQmpEvent, onClosed: events.onGone });
      return agent;
    } catch (error) {
      if (ended || !(await isAlive(this.identity))) {
        throw new BerthError('unavailable', 'qemu.ended', await this.lastWords(), { cause: error });
      }
      throw error;
    }
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

  /** A sentence on how QEMU ended, with what it said. */
  async lastWords(): Promise<string> {
    const text = await tailOfFile(this.#logFile);
    const words = text.trim().split('\n').slice(-3).join('; ');
    const how = await Promise.race([this.#child?.ended ?? Promise.resolve(undefined), sleep(1_000)]);
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
