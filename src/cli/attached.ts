/** A process in a VM on this terminal: bytes both ways, size, signals. */
import type { Readable } from 'node:stream';
import { BerthError, messageOf } from '#base';
import {
  enterRawMode,
  onSignals,
  onTerminalResize,
  standardInput,
  type TakenOver,
  terminalSize,
  writeTo,
} from '#platform';
import type { EngineClient } from './engine-client.ts';
import { FrameReader } from './frame-reader.ts';

/** What Docker's command line passes on, too. SIGINT is a key while a terminal is raw. */
const PROXIED: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'];

export interface AttachedRun {
  readonly taken: TakenOver;
  readonly tty: boolean;
  readonly stdin: boolean;
}

/** Where sizes and signals go: `/containers/ID` or `/exec/ID`. */
export interface SizeTarget {
  readonly engine: EngineClient;
  readonly path: string;
}

/**
 * Copies until the other side ends its output. Standard input's end closes our half only.
 */
export async function copyStreams(run: AttachedRun): Promise<void> {
  const { socket, head } = run.taken;
  let stopInput = (): void => {};
  if (run.stdin) {
    const input = standardInput();
    const leaveRaw = run.tty ? enterRawMode() : () => {};
    const onEnd = (): void => {
      socket.end();
    };
    input.on('end', onEnd);
    input.pipe(socket, { end: false });
    stopInput = () => {
      input.unpipe(socket);
      input.off('end', onEnd);
      input.pause();
      (input as Readable & { unref?: () => void }).unref?.();
      leaveRaw();
    };
  } else {
    // Our half stays open: an engine takes its end for the end of the process's input.
  }
  const broken: unknown[] = [];
  socket.on('error', (error) => broken.push(error));
  try {
    if (head.length > 0) socket.unshift(head);
    await copyOutput(socket, run.tty);
  } catch (error) {
    throw new BerthError('unavailable', 'attach.broken', `the connection to the daemon broke: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    stopInput();
    socket.destroy();
  }
}

/** Frames to the two outputs; with a terminal there is one stream without frames. */
export async function copyOutput(stream: Readable, tty: boolean): Promise<void> {
  const reader = new FrameReader();
  for await (const chunk of stream) {
    if (tty) await writeTo('stdout', chunk as Buffer);
    else for (const { name, data } of reader.feed(chunk as Buffer)) await writeTo(name, data);
  }
}

/** Tells the other side this terminal's size, now and whenever it changes. Returns what stops it. */
export function followSize(target: SizeTarget): () => void {
  const send = (): void => {
    const size = terminalSize();
    if (size === undefined) return;
    // A process that has just ended has no terminal any more: nothing is lost.
    target.engine.call('POST', `${target.path}/resize`, { query: { h: size.rows, w: size.columns } }).catch(() => {});
  };
  send();
  return onTerminalResize(send);
}

export interface SignalProxy {
  /** Signals that came before are sent now. */
  started(): void;
  stop(): void;
}

/** Passes signals on to the VM's process instead of ending this command. */
export function proxySignals(engine: EngineClient, id: string, tty: boolean): SignalProxy {
  const early: NodeJS.Signals[] = [];
  let isStarted = false;
  const send = (name: NodeJS.Signals): void => {
    engine.call('POST', `/containers/${id}/kill`, { query: { signal: name.slice(3) } }).catch(() => {});
  };
  const stop = onSignals(tty ? PROXIED : [...PROXIED, 'SIGINT'], (name) => {
    if (isStarted) send(name);
    else early.push(name);
  });
  return {
    started: () => {
      isStarted = true;
      for (const name of early.splice(0)) send(name);
    },
    stop,
  };
}
