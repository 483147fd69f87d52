import { Exec, type ExecSpec } from './exec.ts';

/** Ended execs that inspect can still show; a health check every second makes 86,400 a day. */
const KEPT_ENDED = 256;

/** The execs of one VM, and the numbers that name processes on its guest channel (0 is the main process). */
export class ExecTable {
  readonly #execs = new Map<string, Exec>();
  #nextChannelId = 1;

  create(vmId: string, spec: ExecSpec): Exec {
    const exec = new Exec(vmId, this.#nextChannelId, spec);
    this.#nextChannelId += 1;
    this.#execs.set(exec.id, exec);
    this.#forgetOld();
    return exec;
  }

  get(id: string): Exec | undefined {
    return this.#execs.get(id);
  }

  values(): Exec[] {
    return [...this.#execs.values()];
  }

  byChannel(channelId: number): Exec | undefined {
    for (const exec of this.#execs.values()) if (exec.channelId === channelId) return exec;
    return undefined;
  }

  /** A number in use by a process that an earlier daemon started. */
  taken(channelId: number): void {
    this.#nextChannelId = Math.max(this.#nextChannelId, channelId + 1);
  }

  /** The machine is gone, and every process with it. */
  endAll(exitCode: number): void {
    for (const exec of this.#execs.values()) exec.finish(exitCode);
  }

  #forgetOld(): void {
    const ended = this.values().filter((exec) => exec.state.name === 'exited');
    for (const exec of ended.slice(0, Math.max(0, ended.length - KEPT_ENDED))) this.#execs.delete(exec.id);
  }
}
