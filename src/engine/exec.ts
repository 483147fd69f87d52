/**
 * Another process in a running VM. Its output goes to whoever started it and nowhere else: it is acknowledged once that
 * client has taken it, so a slow client makes the process wait instead of filling berthd's memory.
 */
import { randomBytes } from 'node:crypto';
import type { ProcessSpec } from './model.ts';
import type { OutputStream } from './process-log.ts';

export interface ExecSpec {
  readonly process: ProcessSpec;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  /** What the Docker door was asked for. Opaque to the engine. */
  readonly docker: unknown;
}

/** Where an exec's output goes. Resolves when the bytes are taken; a sink that is gone resolves at once. */
export type OutputSink = (stream: OutputStream, data: Buffer) => Promise<void>;

export type ExecState =
  | { readonly name: 'created' }
  | { readonly name: 'running'; readonly pid: number }
  | { readonly name: 'exited'; readonly exitCode: number };

export class Exec {
  readonly id: string = randomBytes(32).toString('hex');
  readonly spec: ExecSpec;
  /** The process id on the guest channel; the main process is 0. */
  readonly channelId: number;
  readonly vmId: string;
  state: ExecState = { name: 'created' };
  sink: OutputSink | undefined;
  #delivering: Promise<void> = Promise.resolve();
  #resolveEnded: (exitCode: number) => void = () => {};
  /** Settles with the exit code after the last byte of output was delivered. */
  readonly ended: Promise<number>;

  constructor(vmId: string, channelId: number, spec: ExecSpec) {
    this.vmId = vmId;
    this.channelId = channelId;
    this.spec = spec;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Delivers in order; `onTaken` follows each chunk. */
  deliver(stream: OutputStream, data: Buffer, onTaken: () => void): void {
    this.#delivering = this.#delivering.then(async () => {
      const wanted = stream === 1 ? this.spec.attachStdout : this.spec.attachStderr;
      if (wanted) await this.sink?.(stream, data);
      onTaken();
    });
  }

  finish(exitCode: number): void {
    if (this.state.name === 'exited') return;
    this.state = { name: 'exited', exitCode };
    void this.#delivering.then(() => this.#resolveEnded(exitCode));
  }
}
