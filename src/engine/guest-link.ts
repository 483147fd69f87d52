/**
 * The engine's view of a guest: its own specs in, errors of its own kind out, over one guest channel.
 */
import type { Duplex } from 'node:stream';
import { BerthError } from '#base';
import { sleep } from '#platform';
import {
  type GuestConfiguration as ConfigureMessage,
  GuestChannel,
  type GuestHello,
  type GuestMemory,
  type GuestProcessSpec,
  type GuestTopEntry,
} from './guest-channel/index.ts';
import type { GuestClock, GuestConfiguration } from './guest-configuration.ts';
import type { ProcessSpec, TerminalSize } from './model.ts';
import type { OutputStream } from './process-log.ts';

export type { GuestHello, GuestMemory, GuestTopEntry };

export interface GuestEvents {
  onOutput(output: {
    readonly id: number;
    readonly stream: OutputStream;
    readonly offset: number;
    readonly data: Buffer;
  }): void;
  onExited(exited: { readonly id: number; readonly exitCode: number; readonly oomKilled: boolean }): void;
  onLog(text: string): void;
}

/** Shown until the client says how large its terminal is. */
const DEFAULT_SIZE: TerminalSize = { rows: 24, columns: 80 };

const CODE_OF = {
  not_found: 'process.not_found',
  not_executable: 'process.not_executable',
  unknown_user: 'process.unknown_user',
  other: 'process.start_failed',
} as const;

export class GuestLink {
  readonly #channel: GuestChannel;
  readonly #ended: Promise<'synced' | 'closed'>;
  #kernelRelease = '';

  constructor(stream: Duplex, events: GuestEvents) {
    let settle: (how: 'synced' | 'closed') => void = () => {};
    this.#ended = new Promise((resolve) => {
      settle = resolve;
    });
    this.#channel = new GuestChannel(stream, {
      onOutput: (output) => events.onOutput({ ...output, stream: output.stream === 'stderr' ? 2 : 1 }),
      onExited: (id, exit) => events.onExited({ id, exitCode: exit.exitCode, oomKilled: exit.oomKilled }),
      onLog: (text) => events.onLog(text),
      onSynced: () => settle('synced'),
      onClosed: (reason) => {
        if (reason !== undefined) events.onLog(`the channel closed: ${reason.message}`);
        settle('closed');
      },
    });
  }

  async hello(rejoin: boolean, deadlineMs: number): Promise<GuestHello> {
    const hello = await this.#channel.hello({ rejoin, deadlineMs });
    this.#kernelRelease = hello.kernelRelease;
    return hello;
  }

  /** Of the guest's kernel; empty before it has greeted. */
  get kernelRelease(): string {
    return this.#kernelRelease;
  }

  /** @throws guest.configure (unavailable) naming the step that failed inside the guest. */
  async configure(configuration: GuestConfiguration): Promise<void> {
    const outcome = await this.#channel.configure(messageOf(configuration));
    if (outcome.error === undefined) return;
    throw new BerthError(
      'unavailable',
      'guest.configure',
      `the guest could not set itself up: ${outcome.step ?? 'set-up'}: ${outcome.error}`,
    );
  }

  /** @throws guest.rehearsal (unavailable) */
  async rehearse(configuration: GuestConfiguration, args: readonly string[]): Promise<void> {
    await this.#channel.rehearse(messageOf(configuration), { args, stdin: false });
  }

  /** Holds the processes of the guest's user still; `flush`: what it holds back goes to its disk. @throws guest.freeze (unavailable) */
  freeze(flush: boolean): Promise<void> {
    return this.#channel.freeze({ flush });
  }

  /** What is written so far is on the disks. */
  flush(): Promise<void> {
    return this.#channel.flush();
  }

  thaw(): Promise<void> {
    return this.#channel.thaw();
  }

  /** Of a frozen copy. @throws guest.identify (unavailable) */
  identify(configuration: GuestConfiguration): Promise<void> {
    return this.#channel.identify(messageOf(configuration));
  }

  /** The stream goes to another owner. */
  detach(): void {
    this.#channel.detach();
  }

  /** @throws process.not_found, process.not_executable, process.unknown_user, process.start_failed (invalid) in runc's words. */
  async start(id: number, spec: ProcessSpec, size: TerminalSize | undefined): Promise<{ pid: number }> {
    const outcome = await this.#channel.start(id, processFor(id, spec, size ?? DEFAULT_SIZE));
    if (outcome.ok) return { pid: outcome.pid };
    throw new BerthError('invalid', CODE_OF[outcome.reason], outcome.text);
  }

  setClock(clock: GuestClock): void {
    this.#channel.setClock(clock.epochNs, clock.boottimeNs);
  }

  resume(id: number, stdout: number, stderr: number): void {
    this.#channel.resume(id, { stdout, stderr });
  }

  ack(id: number, stream: OutputStream, offset: number): void {
    this.#channel.ack(id, stream === 2 ? 'stderr' : 'stdout', offset);
  }

  exitAck(id: number): void {
    this.#channel.exitAck(id);
  }

  /** Resolves when the guest has taken the bytes. */
  writeStdin(id: number, data: Buffer): Promise<void> {
    return this.#channel.sendStdin(id, data);
  }

  endStdin(id: number): void {
    this.#channel.endStdin(id);
  }

  signal(id: number, signal: number): void {
    this.#channel.signal(id, signal);
  }

  resize(id: number, size: TerminalSize): void {
    this.#channel.resize(id, size);
  }

  top(): Promise<readonly GuestTopEntry[]> {
    return this.#channel.top();
  }

  memory(): Promise<GuestMemory> {
    return this.#channel.memory();
  }

  /** Whether the guest says within `deadlineMs` that its disks are flushed. False at once when the channel closes. */
  async synced(deadlineMs: number): Promise<boolean> {
    const limit = new AbortController();
    const late = sleep(deadlineMs, limit.signal).then(
      () => 'late' as const,
      () => 'late' as const,
    );
    const how = await Promise.race([this.#ended, late]);
    limit.abort();
    return how === 'synced';
  }
}

function messageOf(configuration: GuestConfiguration): ConfigureMessage {
  const { network, clock } = configuration;
  return {
    hostname: configuration.hostname,
    domainName: configuration.domainName,
    hosts: configuration.hosts,
    resolvConf: configuration.resolvConf,
    layers: configuration.layers,
    ...(network === undefined ? {} : { network }),
    readOnlyRoot: configuration.readonlyRoot,
    tmpfs: configuration.tmpfs.map(({ path, options }) => ({ mountPoint: path, options })),
    epochNs: clock.epochNs,
    volumes: configuration.volumes.map(({ path, readOnly, fill }, slot) => ({
      slot,
      mountPoint: path,
      readOnly,
      fill,
    })),
    ...(clock.boottimeNs === undefined ? {} : { boottimeNs: clock.boottimeNs }),
    entropy: configuration.entropy,
    shmBytes: configuration.shmBytes,
    sysctls: configuration.sysctls,
    workingDirectory: configuration.workingDirectory,
    machineId: configuration.machineId,
    productUuid: configuration.productUuid,
  };
}

function processFor(id: number, spec: ProcessSpec, size: TerminalSize): GuestProcessSpec {
  const bound = (value: number): bigint => (value < 0 ? 2n ** 64n - 1n : BigInt(value));
  return {
    args: spec.args,
    env: spec.env,
    ...(spec.workingDirectory === '' ? {} : { cwd: spec.workingDirectory }),
    ...(spec.user === '' ? {} : { user: spec.user }),
    ...(spec.tty ? { tty: size } : {}),
    stdin: spec.openStdin,
    limits: spec.ulimits.map(({ resource, soft, hard }) => ({ resource, soft: bound(soft), hard: bound(hard) })),
    extraGroups: spec.groups,
    dropCapabilities: spec.dropCapabilities.reduce((mask, capability) => mask | (1n << BigInt(capability)), 0n),
    noNewPrivileges: spec.noNewPrivileges,
    // The main process's folder is made, as for a container; an exec goes where there is something.
    cwdMustExist: id !== 0,
  };
}
